"""A gateway's service by reflection: no generated code, as a person with a Python prompt would use it."""

import json

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "conductor.gateway.v1.GatewayService"


class Gateway:
    """Calls by name, with messages made of keyword arguments."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        database = ProtoReflectionDescriptorDatabase(self.channel)
        assert SERVICE in database.get_services()
        self.service = DescriptorPool(database).FindServiceByName(SERVICE)

    def message(self, name):
        file = self.service.file
        while name not in file.message_types_by_name:
            file = next(dependency for dependency in file.dependencies if name in dependency.message_types_by_name)
        return message_factory.GetMessageClass(file.message_types_by_name[name])

    def call(self, method, request=None, timeout=30):
        descriptor = self.service.methods_by_name[method]
        request_class = message_factory.GetMessageClass(descriptor.input_type)
        response_class = message_factory.GetMessageClass(descriptor.output_type)
        kind = self.channel.unary_stream if descriptor.server_streaming else self.channel.unary_unary
        stub = kind(f"/{SERVICE}/{method}", request_class.SerializeToString, response_class.FromString)
        return stub(request_class(**(request or {})), timeout=timeout)

    def events(self, method, request):
        return [frame.event for frame in self.call(method, request) if frame.WhichOneof("message") == "event"]


def plain(message):
    """A message as the JSON doors print it: open JSON inlined, enum names without their prefix."""
    if message.DESCRIPTOR.name == "Json":
        return json.loads(message.text) if message.text else None
    fields = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            value = plain(value)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            names = field.enum_type.values_by_number
            prefix = names[0].name[: -len("UNSPECIFIED")]
            value = names[value].name.removeprefix(prefix)
        fields[field.name] = value
    return fields
