// Preloaded into Azurite: its standard input is a pipe whose other end its parent holds.
// The pipe closes when the parent stops it, and also when the parent is killed outright,
// so Azurite always gets to write its state and never outlives the host.
"use strict";

process.stdin.on("end", () => process.kill(process.pid, "SIGTERM"));
process.stdin.on("error", () => process.kill(process.pid, "SIGTERM"));
process.stdin.resume();
process.stdin.unref();
