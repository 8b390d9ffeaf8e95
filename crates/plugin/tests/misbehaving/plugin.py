#!/usr/bin/python3
"""A plug-in that misbehaves in the way its first argument names. The others tell its processes and files apart."""
import json, os, signal, socket, sys, time

WAY, TOKEN = sys.argv[1], sys.argv[2]
FEED = WAY.startswith("feed_")


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def hello(**more):
    kind = {"feed": {"url": "https://feeds.invalid/x.json"}} if FEED else {"provider": {"ecosystem": "generic"}}
    say({"hello": {"versions": [1], "name": "bad", "title": "One that misbehaves", **kind, **more}})


def asked():
    return json.loads(sys.stdin.readline())


def package(**more):
    return {"ecosystem": "generic", "name": "a", "version": "1", "architecture": "all", "source": "a", "source_version": "1", **more}


def ok(**answer):
    say({"id": 1, "ok": answer})


def sleep_on():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


# What a plug-in may say too early, too late, too much or not at all.

def silent():
    sleep_on()

def no_hello():
    print("Welcome to my plug-in!", flush=True)
    sleep_on()

def other_version():
    hello(versions=[98, 99])
    sleep_on()

def both_kinds():
    hello(feed={"url": "https://feeds.invalid/"})
    sleep_on()

def evil_name():
    hello(name="../../bin/sh")

def unknown_ecosystem():
    hello(provider={"ecosystem": "windows-update"})

def leads_out():
    hello(provider={"ecosystem": "generic", "database_files": ["../../etc/shadow"]})

def another_hello():
    first = not os.path.exists(TOKEN)
    open(TOKEN, "a").close()
    hello(title="as reviewed" if first else "another one")
    asked()
    ok(packages=[])

def hangs():
    hello()
    asked()
    print("waiting for a lock", file=sys.stderr, flush=True)
    sleep_on()

def stops_when_told():
    hello()
    asked()
    assert asked() == {"cancel": 1}
    say({"id": 1, "err": {"kind": "unavailable", "message": "stopped before anything was changed"}})

def floods_events():
    hello()
    asked()
    while True:
        say({"id": 1, "event": "log", "line": "x" * 10_000})

def floods_errors():
    hello()
    asked()
    while True:
        sys.stderr.write("x" * 10_000 + "\n")

def endless_line():
    hello()
    asked()
    while True:
        sys.stdout.write("x" * 100_000)

def does_not_read():
    hello()
    sleep_on()

def forks():
    hello()
    asked()
    for _ in range(300):
        if os.fork() == 0:
            sleep_on()
    sleep_on()

def leaves(answers, anew=False):
    """A grandchild in a session of its own, without parent; `anew`: started anew, with an empty environment."""
    hello()
    asked()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3):
                os.close(number)
            if anew:
                os.execve(sys.executable, ["python3", "-c", "import time; time.sleep(600)", TOKEN], {})
            time.sleep(600)
        os._exit(0)
    os.wait()
    answers()

def session_leaver_hangs():
    leaves(sleep_on)

def feed_session_leaver():
    leaves(lambda: ok(recognised=True), anew=True)

def background_holds_the_pipe():
    hello()
    asked()
    if os.fork() == 0:
        sleep_on()
    os._exit(3)

def half_an_answer():
    hello()
    asked()
    print("Segmentation fault (not really)", file=sys.stderr, flush=True)
    sys.stdout.write('{"id":1,"ok":{"packa')
    sys.stdout.flush()
    os._exit(3)

def lingers():
    hello()
    asked()
    ok(packages=[package()])
    sleep_on()

# Lies.

def wrong_number():
    hello()
    asked()
    say({"id": 7, "ok": {"packages": []}})

def two_answers():
    hello()
    asked()
    ok(packages=[package()])
    ok(packages=[])

def ok_and_err():
    hello()
    asked()
    say({"id": 1, "ok": {"packages": []}, "err": {"kind": "failed", "message": "both"}})

def no_reply():
    hello()
    asked()
    say(["what", "is", "this"])

def other_type():
    hello()
    asked()
    ok(packages={"a": 1})

def ten_million():
    hello()
    asked()
    one = json.dumps(package())
    sys.stdout.write('{"id":1,"ok":{"packages":[' + one)
    for _ in range(10_000_000):
        sys.stdout.write("," + one)
    sys.stdout.write("]}}\n")

def too_many():
    hello()
    asked()
    ok(packages=[package(name=f"p{n}") for n in range(1_001)])

def other_ecosystem():
    hello()
    asked()
    ok(packages=[package(ecosystem="debian")])

def control_characters():
    hello()
    asked()
    ok(packages=[package(name="a\u001b[2Jb")])

def deep():
    hello()
    asked()
    sys.stdout.write('{"id":1,"ok":{"applied":{"data":' + "[" * 5_000 + "]" * 5_000 + ',"notes":[]}}}\n')

def much_for_the_undo():
    hello()
    asked()
    ok(applied={"data": "x" * 2_000_000, "notes": []})

def file_elsewhere():
    hello()
    asked()
    file = {"name": "../../etc/cron.d/evil", "uri": "x:y", "size": 1, "sha256": "0" * 64}
    step = {"name": "a", "architecture": "all", "from": None, "to": "1", "asked": True, "file": file}
    manifest = {"ecosystem": "generic", "steps": [step], "base_digest": "0" * 64, "download_bytes": 1, "disk_bytes": 1}
    ok(outcome={"kind": "possible", "manifest": manifest, "notes": []})

def no_digest():
    hello()
    asked()
    ok(digest="$(reboot)")

def unknown_kind():
    hello()
    asked()
    say({"id": 1, "err": {"kind": "cosmic_rays", "message": "a kind of the future\u0007", "causes": ["x"] * 1000}})

def feed_path():
    hello()
    asked()
    ok(advisories={"sha256": "../../../../../etc/passwd", "size": 10}, problems=[])

def feed_plants_links():
    """Where the host will write: the name of the document, and what may lead there, are links to the file TOKEN."""
    import hashlib
    digest = hashlib.sha256(b"{}").hexdigest()
    for name in (digest, digest + ".part"):
        os.symlink(TOKEN, name)
    hello()
    asked()
    with open(digest, "rb") as file:
        assert file.read() == b"{}"
    ok(recognised=True)

def feed_link():
    hello()
    asked()
    os.symlink("/etc/hostname", "a" * 64)
    ok(facts={"sha256": "a" * 64, "size": os.stat("/etc/hostname").st_size}, problems=[])

def feed_big():
    hello()
    asked()
    with open("b" * 64, "wb") as file:
        file.truncate((1 << 30) + 1)
    ok(facts={"sha256": "b" * 64, "size": (1 << 30) + 1}, problems=[])

def feed_other_bytes():
    hello()
    asked()
    with open("c" * 64, "w") as file:
        file.write("{}")
    ok(facts={"sha256": "c" * 64, "size": 2}, problems=[])

def feed_speaks_for_another():
    import hashlib
    hello()
    asked()
    statement = {"record": "X-1", "vulnerability": "CVE-2026-1", "ecosystem": "debian", "release": "bookworm", "source": "bash",
                 "statement": {"kind": "not-affected"}}
    good = {**statement, "feed": "bad"}
    lies = [{**statement, "feed": "debian-tracker"}, {**good, "release": ""}, {"feed": "bad"},
            {**good, "statement": {"kind": "fixed", "introduced": None, "fixed": "not a version!"}}]
    data = "".join(json.dumps(line) + "\n" for line in [*lies, good]).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(digest, "wb") as file:
        file.write(data)
    ok(advisories={"sha256": digest, "size": len(data)}, problems=[])

# What it finds around itself.

def confesses():
    hello()
    asked()
    names = sorted(os.environ)
    def is_open(number):
        try:
            return bool(os.fstat(number))
        except OSError:
            return False
    descriptors = [number for number in range(1024) if is_open(number)]
    ok(packages=[package(name="environment", version=" ".join(names)), package(name="descriptors", version=str(descriptors)),
                 package(name="group", version=str(os.getpgid(0) == os.getpid())), package(name="nice", version=str(os.nice(0)))])

def feed_looks_around():
    """Recognises the document when it can reach nothing: argument 3 is a port that listens on loopback."""
    hello()
    asked()
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[3])), timeout=2)
        reached = True
    except OSError:
        reached = False
    others = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    ok(recognised=not reached and len(others) <= 3 and (int(sys.argv[4]) != 0 or os.getuid() == 65534))


globals()[WAY]()
