"""One HTTP question asked by a host itself, with whatever it has, for servers that forbid forwarding; and the parser."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bbctl.remote.shell import quote

LIMIT = 1 << 20  # bytes of an answer that are read

_PYTHON = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[4]))
s.sendall(sys.argv[3].encode())
while True:
    data = s.recv(65536)
    if not data:
        break
    sys.stdout.buffer.write(data)
"""
_PERL = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => $ARGV[3]) or die "$@\\n";
syswrite($s, $ARGV[2]);
while (sysread($s, my $data, 65536)) { print $data; }
"""
_BASH = r"""exec 3<>"/dev/tcp/$1/$2" && printf %s "$3" >&3 && cat <&3"""
# The first of them that gets an answer; one that is there and broken is passed over.
_ASK = r"""
set -- {address} {port} {request} {seconds}
by() {{ case $1 in
  bash) shift; timeout "$4" bash -c {bash} bash "$@";;
  python3) shift; timeout "$4" python3 -c {python} "$@";;
  perl) shift; timeout "$4" perl -e {perl} "$@";;
  nc) shift; printf %s "$3" | timeout "$4" nc "$1" "$2";;
esac; }}
end=$(($(date +%s) + $4)) said='none of bash, python3, perl, nc is there to ask with'
for tool in bash python3 perl nc; do
  command -v $tool >/dev/null 2>&1 || continue
  said=$(by $tool "$@" 2>&1 | head -c {limit})
  case $said in HTTP/*) break;; esac
  [ "$(date +%s)" -lt $end ] || break
done
printf %s "$said"
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`code` is None where there was no answer: then `error` says why."""

    code: int | None
    body: str = ""
    error: str | None = None


def request(path: str, host: str) -> str:
    """A GET as HTTP/1.0, so that the answer comes whole and its end is the end of the connection."""
    return f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: bbctl\r\nAccept: */*\r\nConnection: close\r\n\r\n"


def ask(address: str, port: int, text: str, *, seconds: float) -> str:
    """Shell text that sends a request from the host and prints the answer as it came."""
    return _ASK.format(
        address=quote(address),
        port=port,
        request=quote(text),
        seconds=max(1, round(seconds)),
        limit=LIMIT,
        bash=quote(_BASH),
        python=quote(_PYTHON),
        perl=quote(_PERL),
    )


def understand(answer: bytes) -> Answer:
    """Status and body of an HTTP answer, whole or cut; anything else is no answer and its first words are the error."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/\d(?:\.\d)? (\d{3})", head)
    if not found:
        said = " ".join(answer[:200].decode("utf-8", "replace").split())
        return Answer(code=None, error=said or "the connection was closed without an answer")
    if re.search(rb"(?im)^transfer-encoding:\s*chunked", head):
        body = _unchunked(body)
    return Answer(code=int(found[1]), body=body.decode("utf-8", "replace"))


def complete(answer: bytes) -> bool:
    """Whether all of an answer is there, as far as its head tells: some servers keep the connection open all the same."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    return length is not None and len(body) >= int(length[1])


def _unchunked(body: bytes) -> bytes:
    made = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            break
        if length == 0:
            break
        made += rest[:length]
        body = rest[length + 2 :]
    return made
