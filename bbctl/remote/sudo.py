"""May the login user run these words as another user without a password? sudo itself is asked; the words are not run.

Rights are best for exact commands, so nothing can be tried out: whoever may run `init.sh stop` may not run `true`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from bbctl.remote.shell import as_user, join, quote

# A wide right is tried out first, with a command that does nothing. `-l` says that the words are there and permitted, but
# not whether a password would be asked for them; where `-v` fails, some rule wants one, and the rules are shown.
_ASK = r"""
LC_ALL=C; export LC_ALL
if {become} test -x {program} 2>/dev/null; then echo yes
elif ! said=$(sudo -n -l -u {user} -- {words} 2>&1); then printf 'no %s\n' "$said"
elif sudo -n -v 2>/dev/null; then echo yes
else echo rules; sudo -n -l -l 2>&1
fi
"""
_RULE = re.compile(r"^Sudoers entry:.*$|^LDAP Role:.*$", re.MULTILINE)


def may(user: str, words: Sequence[str]) -> str:
    """Shell text that asks whether `words` may be run as `user`; for `refusal`."""
    return _ASK.format(
        become=join(as_user(user, ())), user=quote(user), program=quote(words[0]), words=join(words)
    )  # fmt: skip


def refusal(answer: str, user: str, words: Sequence[str]) -> str | None:
    """Why sudo would not run the words at once, in its own words where it has any; None where it would."""
    said = answer.strip()
    if said == "yes":
        return None
    if said.startswith("rules\n"):
        return "a password is required" if _asks(said, user, words) else None
    cause = said.removeprefix("no").strip().rpartition("\n")[2].removeprefix("sudo: ")
    return cause[-160:] or "no rule of sudoers allows it"


def _asks(listing: str, user: str, words: Sequence[str]) -> bool:
    """Whether the last of sudo's rules that fits the words wants a password. Of the rules of which it cannot be told whether
    they fit, one that wants none counts, one that wants one only where no other does. False where none is seen to fit."""
    asks: bool | None = None
    for rule in _RULE.split(listing)[1:]:
        head, _, commands = rule.partition("Commands:")
        fits = _both(_as(head, user), _any(_fits(line.strip(), words) for line in commands.splitlines()))
        wanted = "!authenticate" not in head
        if fits or (fits is None and (asks is None or not wanted)):
            asks = wanted
    return bool(asks)


# Yes, no, or None: it cannot be told here, as where sudo looks up numbers, groups or the files themselves.


def _as(head: str, user: str) -> bool | None:
    """Whether a rule is for commands run as this user."""
    said = re.search(r"RunAsUsers: *(.*)", head)
    users = re.split(r"[,\s]+", said[1].replace("\\", "") if said else "root")
    return bool({user, "ALL"} & set(users)) or (None if any(name[:1] in ("%", "#", "+") for name in users) else False)


def _fits(rule: str, words: Sequence[str]) -> bool | None:
    """Whether a command of a rule is the one of these words. sudo compares files, which may have several paths: what is sure
    is an equal path, what rules it out is another last part of it."""
    plain = re.sub(r"^(?:sha\d+:\S+\s+)+", "", rule)
    if plain == "ALL":
        return True if plain == rule else None
    found = re.fullmatch(r"((?:\\.|[^\s\\])+)(?:\s+(.*))?", plain)
    if found is None or plain.startswith("^"):
        return None if plain else False
    path, given = found[1].replace("\\", ""), found[2]
    command = _file(path, words[0])
    if command and plain != rule:
        command = None  # the digest of the file is not looked at
    return _both(command, _arguments(given, " ".join(words[1:])))


def _file(path: str, file: str) -> bool | None:
    if path.startswith("!"):
        return False
    if path.endswith("/"):
        return True if file.rpartition("/")[0] + "/" == path else None
    if path.count("/") == file.count("/") and fnmatchcase(file, path):
        return True
    return None if fnmatchcase(file.rpartition("/")[2], path.rpartition("/")[2]) else False


def _arguments(rule: str | None, given: str) -> bool | None:
    if not rule:
        return True
    if rule.startswith("^"):
        return None
    return given == "" if rule == '""' else fnmatchcase(given, rule.replace("\\", ""))


def _both(one: bool | None, other: bool | None) -> bool | None:
    return False if False in (one, other) else None if None in (one, other) else True


def _any(each: Iterable[bool | None]) -> bool | None:
    said = set(each)
    return True if True in said else None if None in said else False
