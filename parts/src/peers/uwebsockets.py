"""A broadcast: what is sent to /publish goes to all who are connected to /subscribe."""

import sys

from socketify import App, OpCode

app = App()

# As much may wait for a client as in Tailrace; and the connection stays open, however quiet it is.
app.ws("/subscribe", {
    "idle_timeout": 0,
    "max_backpressure": 1024 * 1024,
    "open": lambda socket: socket.subscribe("all"),
    "message": lambda socket, message, opcode: None,
})
app.ws("/publish", {
    "idle_timeout": 0,
    "message": lambda socket, message, opcode: app.publish("all", message, OpCode.TEXT),
})
app.get("/", lambda response, request: response.end("ready"))
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
# The loop of the core. The package's own, for Python's coroutines, asks it a thousand times a second whether there is anything.
app.loop.uv_loop.run()
