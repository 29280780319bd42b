"""Every call over gRPC by reflection; errors carry google.rpc details."""

import sys

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from gateway import Gateway

gateway = Gateway(sys.argv[1])
health = health_pb2_grpc.HealthStub(gateway.channel).Check(health_pb2.HealthCheckRequest())
assert health.status == health_pb2.HealthCheckResponse.SERVING

info = gateway.call("GetServerInfo")
assert (info.planner, info.engine) == ("direct", "bundled"), info
agents = gateway.call("ListAgents").agents
assert len(agents) >= 6, agents
tools = gateway.call("ListTools").tools
assert "list_available_agents" in [tool.name for tool in tools]

command = {"task": {"command": "which agents do I have?"}}
job = gateway.call("Execute", command).job
assert agents[0].agent_id in job.result.text, job
events = gateway.events("StreamExecute", command)
names = [event.WhichOneof("payload") for event in events]
assert names[0] == "job_started" and names[-2:] == ["result", "end_of_stream"], names
assert [event.sequence for event in events] == list(range(1, len(events) + 1))
submitted = gateway.call("SubmitJob", command).job
watched = gateway.events("WatchJob", {"job_id": submitted.job_id})
assert [event.WhichOneof("payload") for event in watched] == names
many = list(gateway.call("WatchJobs", {"jobs": [{"job_id": submitted.job_id}, {"job_id": job.job_id}]}))
of_each = {job_id: [m.event.sequence for m in many if m.event.job_id == job_id] for job_id in (submitted.job_id, job.job_id)}
assert of_each[submitted.job_id] == [event.sequence for event in watched] and of_each[job.job_id], of_each
assert many[-1].WhichOneof("message") == "cursor"
again = {"jobs": [{"job_id": submitted.job_id}, {"job_id": job.job_id}], "cursor": many[-1].cursor}
assert list(gateway.call("WatchJobs", again)) == []
assert next(iter(gateway.call("WatchJobs"))).WhichOneof("message") in ("job", "cursor")
assert gateway.call("GetJob", {"job_id": submitted.job_id}).job.last_sequence == len(watched)
listed = gateway.call("ListJobs", {"page_size": 2})
assert len(listed.jobs) == 2 and listed.next_page_token
cancelled = gateway.call("CancelJob", {"job_id": submitted.job_id, "wait_seconds": 5}).job
assert cancelled.state == gateway.call("GetJob", {"job_id": submitted.job_id}).job.state
gateway.call("DeleteJob", {"job_id": submitted.job_id})


def refused(method, request):
    """The code, the reason and the message of a call that has to fail."""
    try:
        answer = gateway.call(method, request)
        list(answer) if hasattr(answer, "__iter__") else None
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        detail = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(detail), status
        return error.code(), detail.reason, error.details()
    raise AssertionError(f"{method} was not refused")


for method, request, code, reason in [
    ("GetJob", {"job_id": submitted.job_id}, grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"),
    ("WatchJob", {"job_id": job.job_id, "after_sequence": 99}, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_BEYOND_LOG"),
    ("Execute", {}, grpc.StatusCode.INVALID_ARGUMENT, "NO_TASK"),
    ("Execute", {"task": {"tool_call": {"tool": "nope"}}}, grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_TOOL"),
    ("Execute", {"task": {"agent_run": {"agent_id": "../x", "input_text": "x"}}}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ("SendInput", {"job_id": job.job_id, "input_id": "x"}, grpc.StatusCode.FAILED_PRECONDITION, "NO_OPEN_QUESTION"),
]:
    seen = refused(method, request)
    assert seen[:2] == (code, reason), (method, request, seen)
    assert len(seen[2]) > 15, seen
