"""What goes wrong on the way: rules that a server of the tests applies to requests that match."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Fault:
    """A rule; `hits` counts the requests that it met.

    Several effects go together: `cut=1000, hang=5` sends 1000 bytes and then nothing for 5 s.

    Attributes:
        pattern: Regular expression, searched in "METHOD path?query".
        times: Requests it meets before it is over; None means for ever.
        skip: Matching requests that it lets pass first.
        status: Answers this error instead, with `code` and `message` where given.
        code: The X-Error-Code header of that answer.
        message: Its X-Error-Message header.
        retry_after: Its Retry-After header, in seconds.
        cut: Closes the connection after so many bytes of the body, of the answer or, where the
            request has one, of the request.
        corrupt: Sends other bytes, as many.
        length: The Content-Length header, whatever the body.
        whole: Ignores Range, as some proxies do.
        late: Gives another range than asked, which starts so many bytes later.
        pause: Seconds before each eighth of the body.
        hang: Seconds without an answer; the connection is closed after them.
        call: What happens meanwhile, such as somebody else's commit; called first.
    """

    pattern: str
    times: int | None = 1
    skip: int = 0
    status: int | None = None
    code: str | None = None
    message: str = "Injected"
    retry_after: int | None = None
    cut: int | None = None
    corrupt: bool = False
    length: int | None = None
    whole: bool = False
    late: int = 0
    pause: float = 0.0
    hang: float = 0.0
    call: Callable[[], object] = lambda: None
    hits: int = field(default=0, init=False)

    def meets(self, line):
        return re.search(self.pattern, line) is not None

    def change(self, content):
        """The body that is sent in place of another."""
        return bytes(byte ^ 0x55 for byte in content) if self.corrupt else content


class Faults:
    """The rules of a server; of those that match, the first that is not over applies."""

    def __init__(self):
        self.rules, self.lock = [], threading.Lock()

    def add(self, pattern, **effects):
        fault = Fault(pattern, **effects)
        self.rules.append(fault)
        return fault

    def choose(self, line):
        with self.lock:
            for fault in self.rules:
                if not fault.meets(line) or fault.hits == fault.times:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                return fault
        return Fault("", times=None)
