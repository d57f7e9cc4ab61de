"""The raw reference of the simulator's benchmark: the standard library's threaded HTTP server with fixed replies.

    python -m benchmarks.raw_http DIRECTORY        prints its URL; a POST to /NAME answers with the file of that name
"""

import http.server
import pathlib
import sys


def handler(replies):
    class FixedReplies(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = replies[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    return FixedReplies


def main():
    replies = {f"/{path.name}": path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(replies))
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
