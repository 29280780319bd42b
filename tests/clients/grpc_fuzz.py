"""Generated messages for every call of the service, by reflection: each answer is a success, or a refusal that says why."""

import sys

import grpc
from google.protobuf.descriptor import FieldDescriptor as Field
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import Gateway

gateway = Gateway(sys.argv[1])
# What a request can bring about; a fault of the gateway is none of them.
FINE = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "list the agents", "CodeReviewer_Agent", "get_system_config", "{}", '{"a":1}', "{", "null", "job_0", "x" * 5000, "\x00", "../..", "0.5"]),
)
numbers = {
    Field.TYPE_UINT32: st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    Field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    Field.TYPE_UINT64: st.integers(0, 2**64 - 1),
    Field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    Field.TYPE_ENUM: st.one_of(st.integers(0, 9), st.integers(-(2**31), 2**31 - 1)),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_STRING: texts,
}


def value(field, depth):
    return message(field.message_type, depth - 1) if field.type == Field.TYPE_MESSAGE else numbers[field.type]


def message(descriptor, depth=4):
    """Messages as keyword arguments; deep ones stay empty."""
    if depth == 0:
        return st.just({})
    fields = {}
    for field in descriptor.fields:
        if field.type == Field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            fields[field.name] = st.dictionaries(texts, texts, max_size=3)
        elif field.is_repeated:
            fields[field.name] = st.lists(value(field, depth), max_size=4)
        else:
            fields[field.name] = value(field, depth)
    return st.fixed_dictionaries({}, optional=fields)


def refused(error):
    assert error.code() in FINE, f"{error.code()}: {error.details()}"
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and details is None:
        return
    # The reason is machine-readable.
    status = status_pb2.Status.FromString(details)
    assert any(detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for detail in status.details), error.details()


def fuzzed(method):
    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(message(method.input_type))
    def call(request):
        try:
            answer = gateway.call(method.name, request, timeout=5)
            if method.server_streaming:
                # A stream may have no end.
                for _, frame in zip(range(20), answer):
                    frame.SerializeToString()
                answer.cancel()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                refused(error)

    call()
    return method.name


called = [fuzzed(method) for method in gateway.service.methods]
assert len(called) >= 16, called
# It is as well as before.
assert gateway.call("GetServerInfo").version
print(f"{len(called)} calls, 60 messages each")
