"""Answers every gRPC call with what it is and who called: "VERSION POD CALLER"; /shop.Greeter/Slow takes two seconds,
/shop.Greeter/Flaky fails every other time with UNAVAILABLE."""
import itertools, os, signal, time
from concurrent import futures

import grpc

NAME = f"{os.environ['VERSION']} {os.environ['POD']}"
turns = itertools.count()


class Calls(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self.answer(call.method, context))

    def answer(self, method, context):
        if method == "/shop.Greeter/Slow":
            time.sleep(2)
        if method == "/shop.Greeter/Flaky" and next(turns) % 2 == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "every other time")
        said = dict(context.invocation_metadata())
        return f"{NAME} {said.get('x-forwarded-client-cert', 'nobody')}".encode()


server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[Calls()])
server.add_insecure_port("0.0.0.0:9000")
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(1))
server.wait_for_termination()
