"""The deployment file: what is accepted, and how everything else is refused."""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persipubsub import config, deployment
from persipubsub.config import Action
from persipubsub.engine.jetstream.location import parse
from persipubsub.engine.opening import opener_for
from persipubsub.environment import Environment
from persipubsub.errors import ConfigError, NotAQueueError, PersipubsubError, QueueError
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, SubscriberSettings

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def write(folder: pathlib.Path, document: Any) -> pathlib.Path:
    file = folder / "persipubsub.json"
    if isinstance(document, bytes):
        file.write_bytes(document)
    else:
        file.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return file


def queue(**fields: Any) -> dict[str, Any]:
    return {"queues": {"frames": fields}}


def refusal(folder: pathlib.Path, document: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(write(folder, document))
    assert not (folder / "queues").exists()
    return str(caught.value)


def attempt(file: pathlib.Path) -> tuple[config.Config | None, str]:
    try:
        return config.load(file), ""
    except ConfigError as error:
        return None, str(error)


# -- what is accepted -----------------------------------------------------------------------------


def test_every_key_of_the_example_is_read() -> None:
    loaded = config.load(REPOSITORY / "config" / "queues.json")
    assert loaded.root == REPOSITORY / "config" / "queues"
    frames = loaded.queues["frames"]
    assert frames.path == loaded.root / "cameras" / "frames"
    assert frames.settings == Settings(
        high_water_mark=HighWaterMark(message_timeout=3600, max_messages=100_000, max_bytes=8 * 1024**3),
        strategy=Strategy.PRUNE_FIRST,
        retention=Retention.CONSUMED,
        durability=Durability.PROCESS,
        max_message_bytes=64 * 1024**2,
        deduplication_window=120,
        lock_timeout=30,
        group_access=False,
    )
    assert frames.subscribers["archive"].settings == SubscriberSettings()
    assert frames.subscribers["archive"].start == "first"
    assert frames.subscribers["left-eye"].settings == SubscriberSettings(
        lease=30, max_deliveries=5, topic_filter="camera.left.>"
    )
    assert list(loaded.queues["orders"].subscribers) == ["billing", "shipping"]


def test_the_example_shows_every_key_of_the_schema() -> None:
    document = json.loads((REPOSITORY / "config" / "queues.json").read_text())
    shapes = config.schema()["$defs"]
    frames = document["queues"]["frames"]
    assert document.keys() == shapes["ConfigFile"]["properties"].keys()
    on_nats = json.loads((REPOSITORY / "config" / "nats.json").read_text())["queues"]["frames"]
    assert frames.keys() | on_nats.keys() == shapes["QueueFile"]["properties"].keys()
    assert on_nats["tls"].keys() == shapes["TlsFile"]["properties"].keys()
    assert frames["high_water_mark"].keys() == shapes["HighWaterMarkFile"]["properties"].keys()
    assert frames["subscribers"]["archive"].keys() == shapes["SubscriberFile"]["properties"].keys()


def test_a_queue_on_an_engine_is_a_url_with_what_the_file_says() -> None:
    frames = config.load(REPOSITORY / "config" / "nats.json").queues["frames"]
    location = parse(opener_for(frames.path).address)
    assert opener_for(frames.path).location == (
        "nats://nats-1.example.com:4222,nats-2.example.com:4222,nats-3.example.com:4222/frames"
    )
    folder = REPOSITORY / "config"
    assert (location.replicas, location.credentials) == (3, str(folder / "app.creds"))
    assert (location.tls_ca, location.tls_cert) == (str(folder / "ca.pem"), str(folder / "app.pem"))
    assert location.tls_key == str(folder / "app.key")
    assert location.monitors == tuple(f"http://nats-{number}.example.com:8222" for number in (1, 2, 3))
    assert location.tls


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"engine": "redis://host"}, r"\$\.queues\.frames\.engine: "),
        ({"engine": "nats://host", "path": "x"}, r"\$\.queues\.frames\.path: "),
        ({"replicas": 3}, r"\$\.queues\.frames\.replicas: "),
        ({"engine": "nats://host", "replicas": 6}, r"\$\.queues\.frames\.replicas: "),
        ({"credentials": "x"}, r"\$\.queues\.frames\.credentials: "),
        ({"tls": {"ca": "x"}}, r"\$\.queues\.frames\.tls: "),
        ({"monitor": ["x"]}, r"\$\.queues\.frames\.monitor: "),
        ({"engine": "nats://host", "tls": {"cafile": "x"}}, r"\$\.queues\.frames\.tls"),
    ],
)
def test_what_makes_no_sense_about_an_engine_is_refused(tmp_path: pathlib.Path, fields: Any, error: str) -> None:
    assert re.match(error, refusal(tmp_path, queue(**fields)))


def test_the_schema_file_is_current() -> None:
    written = (REPOSITORY / "config" / "queues.schema.json").read_text()
    assert written == json.dumps(config.schema(), indent=2) + "\n"


def test_minimal_file_has_the_defaults() -> None:
    loaded = config.load(REPOSITORY / "config" / "minimal.json")
    assert loaded.queues["events"].settings == Settings()
    assert loaded.queues["events"].path == REPOSITORY / "config" / "queues" / "events"


def test_root_is_relative_to_the_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    file = write(tmp_path / "etc", {"root": "../data", "queues": {"a": {}}})
    monkeypatch.chdir("/")
    assert config.load(file).queues["a"].path == tmp_path / "data" / "a"
    monkeypatch.chdir(tmp_path)
    assert config.load("etc/persipubsub.json").root == tmp_path / "data"


def test_nulls_mean_no_limit(tmp_path: pathlib.Path) -> None:
    document = queue(high_water_mark={"message_timeout": None, "max_messages": None, "max_bytes": None}, path=None)
    loaded = config.load(write(tmp_path, document))
    assert loaded.queues["frames"].settings.high_water_mark == HighWaterMark(None, None, None)


def test_unknown_queue_lists_the_known_ones(tmp_path: pathlib.Path) -> None:
    loaded = config.load(write(tmp_path, {"queues": {"a": {}, "b": {}}}))
    with pytest.raises(ConfigError, match=r"no queue 'c' .* it has: a, b"):
        config.queue_path(loaded, "c")


# -- what is refused ------------------------------------------------------------------------------

WRONG: list[tuple[Any, str]] = [
    # the document
    ("", "$: "),
    (" \n", "$: "),
    ("{", "$: "),
    ("nonsense", "$: "),
    (b"\xff\xfe{\x00", "$: "),
    (b'\xef\xbb\xbf{"queues": {}}', "$: "),
    ("[]", "$: "),
    ("12", "$: "),
    ("null", "$: "),
    ("{}", "$: "),
    ("[" * 100_000, "$: "),
    ('{"queues":' * 20_000 + "1" + "}" * 20_000, "$"),
    ('{"queues": {"frames": ' + "[" * 40 + "]" * 40 + "}}", "$.queues.frames[0]"),
    ('{"queues": {"frames": {"lock_timeout": 1' + "0" * 5000 + "}}}", "$: "),
    ('{"queues": {}, "queues": {}}', "$.queues: "),
    ('{"queues": {"frames": {}, "frames": {}}}', "$.queues.frames: "),
    ('{"queues": {"a b": {"path": "x", "path": "y"}}}', '$.queues["a b"].path: '),
    ('{"queues": {"frames": {"subscribers": {"a": {}, "a": {}}}}}', "$.queues.frames.subscribers.a: "),
    ('{"queues": {"frames": {"lock_timeout": NaN}}}', "$.queues.frames.lock_timeout: "),
    ('{"queues": {"frames": {"lock_timeout": -Infinity}}}', "$.queues.frames.lock_timeout: "),
    (
        '{"queues": {"frames": {"high_water_mark": {"max_messages": 1e999}}}}',
        "$.queues.frames.high_water_mark.max_messages: ",
    ),
    ('{"queues": {"fr\\ud800": {}}}', "$.queues: "),
    ({"queues": {}, "quues": {}}, "$.quues: "),
    ({"queues": []}, "$.queues: "),
    ({"queues": None}, "$.queues: "),
    ({"queues": {}, "root": ""}, "$.root: "),
    ({"queues": {}, "root": "a\0b"}, "$.root: "),
    ({"queues": {}, "root": 1}, "$.root: "),
    ({"queues": {}, "$schema": 1}, "$.$schema: "),
    # a queue
    ({"queues": {"frames": []}}, "$.queues.frames: "),
    ({"queues": {"frames": None}}, "$.queues.frames: "),
    ({"queues": {"": {}}}, '$.queues[""]: '),
    ({"queues": {"a/b": {}}}, '$.queues["a/b"]: '),
    ({"queues": {"..": {}}}, '$.queues[".."]: '),
    ({"queues": {".": {}}}, '$.queues["."]: '),
    ({"queues": {"a\nb": {}}}, '$.queues["a\\nb"]: '),
    ({"queues": {"a" * 256: {}}}, "$.queues."),
    (queue(subscriber=[]), "$.queues.frames.subscriber: "),
    (queue(strategy="prune"), "$.queues.frames.strategy: "),
    (queue(strategy=None), "$.queues.frames.strategy: "),
    (queue(retention="for ever"), "$.queues.frames.retention: "),
    (queue(durability=True), "$.queues.frames.durability: "),
    (queue(max_message_bytes=0), "$.queues.frames.max_message_bytes: "),
    (queue(max_message_bytes=1.5), "$.queues.frames.max_message_bytes: "),
    (queue(max_message_bytes=2**32), "$.queues.frames.max_message_bytes: "),
    (queue(deduplication_window=-1), "$.queues.frames.deduplication_window: "),
    (queue(lock_timeout="30"), "$.queues.frames.lock_timeout: "),
    (queue(lock_timeout=1e300), "$.queues.frames.lock_timeout: "),
    (queue(group_access=1), "$.queues.frames.group_access: "),
    (queue(high_water_mark=None), "$.queues.frames.high_water_mark: "),
    (queue(high_water_mark={"max_msgs": 1}), "$.queues.frames.high_water_mark.max_msgs: "),
    (queue(high_water_mark={"max_messages": True}), "$.queues.frames.high_water_mark.max_messages: "),
    (queue(high_water_mark={"max_messages": "10"}), "$.queues.frames.high_water_mark.max_messages: "),
    (queue(high_water_mark={"max_messages": 0}), "$.queues.frames.high_water_mark.max_messages: "),
    (queue(high_water_mark={"max_bytes": 10**30}), "$.queues.frames.high_water_mark.max_bytes: "),
    (queue(high_water_mark={"message_timeout": False}), "$.queues.frames.high_water_mark.message_timeout: "),
    (queue(high_water_mark={"message_timeout": 0}), "$.queues.frames.high_water_mark.message_timeout: "),
    # subscribers
    (queue(subscribers="a"), "$.queues.frames.subscribers: "),
    (queue(subscribers=None), "$.queues.frames.subscribers: "),
    (queue(subscribers=["a", 1]), "$.queues.frames.subscribers[1]: "),
    (queue(subscribers=["a", "b", "a"]), "$.queues.frames.subscribers[2]: "),
    (queue(subscribers=[""]), "$.queues.frames.subscribers[0]: "),
    (queue(subscribers={"a\tb": {}}), '$.queues.frames.subscribers["a\\tb"]: '),
    (queue(subscribers={"a": []}), "$.queues.frames.subscribers.a: "),
    (queue(subscribers={"a": {"leases": 1}}), "$.queues.frames.subscribers.a.leases: "),
    (queue(subscribers={"a": {"lease": True}}), "$.queues.frames.subscribers.a.lease: "),
    (queue(subscribers={"a": {"lease": -1}}), "$.queues.frames.subscribers.a.lease: "),
    (queue(subscribers={"a": {"lease": 1e-9}}), "$.queues.frames.subscribers.a.lease: "),
    (queue(subscribers={"a": {"max_deliveries": 0}}), "$.queues.frames.subscribers.a.max_deliveries: "),
    (queue(subscribers={"a": {"max_deliveries": 2**40}}), "$.queues.frames.subscribers.a.max_deliveries: "),
    (queue(subscribers={"a": {"topic_filter": "a..b"}}), "$.queues.frames.subscribers.a.topic_filter: "),
    (queue(subscribers={"a": {"start": "newest"}}), "$.queues.frames.subscribers.a.start: "),
    (queue(subscribers={"a": {"start": True}}), "$.queues.frames.subscribers.a.start: "),
    (queue(subscribers={"a": {"ephemeral": True}}), "$.queues.frames.subscribers.a.ephemeral: "),
    # paths
    (queue(path=""), "$.queues.frames.path: "),
    (queue(path="."), "$.queues.frames.path: "),
    (queue(path="/tmp/frames"), "$.queues.frames.path: "),
    (queue(path="../frames"), "$.queues.frames.path: "),
    (queue(path="a/../b"), "$.queues.frames.path: "),
    (queue(path="a\0b"), "$.queues.frames.path: "),
    ({"queues": {"a": {}, "b": {"path": "a"}}}, "$.queues.b.path: "),
    ({"queues": {"a": {}, "b": {"path": "./a/"}}}, "$.queues.b.path: "),
    ({"queues": {"a": {}, "b": {"path": "a/b"}}}, "$.queues.b.path: "),
]


@pytest.mark.parametrize(("document", "path"), WRONG, ids=range(len(WRONG)))
def test_wrong_file_is_refused_with_the_path_of_the_field(tmp_path: pathlib.Path, document: Any, path: str) -> None:
    message = refusal(tmp_path, document)
    assert message.startswith(path)
    assert "\n" not in message


def test_enumeration_lists_its_values(tmp_path: pathlib.Path) -> None:
    assert "prune_first, prune_last, reject, block" in refusal(tmp_path, queue(strategy="prune"))


def test_missing_file_and_directory(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="There is no file"):
        config.load(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="is a directory"):
        config.load(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load("a\0b")


def test_huge_file_is_refused_unparsed(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "huge.json"
    with open(file, "wb") as stream:
        stream.truncate(16 * 1024**2 + 1)
    with pytest.raises(ConfigError, match="larger than 16777216 bytes"):
        config.load(file)


def test_file_with_too_many_values_is_refused_unparsed(tmp_path: pathlib.Path) -> None:
    assert "more than 200000 values" in refusal(tmp_path, '{"queues": [' + "{}," * 150_000 + "{}]}")


def test_a_thousand_queues_are_fine(tmp_path: pathlib.Path) -> None:
    names = [f"queue-{number}" for number in range(1000)]
    loaded = config.load(write(tmp_path, {"queues": {name: {"subscribers": ["a", "b"]} for name in names}}))
    assert list(loaded.queues) == names


def test_link_that_leads_out_of_the_root_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    for path in ("link", "link/frames"):
        with pytest.raises(ConfigError, match=r"^\$\.queues\.frames\.path: .* not inside the root"):
            config.load(write(tmp_path, {"root": "root", "queues": {"frames": {"path": path}}}))
    (tmp_path / "root" / "same").symlink_to("other")
    with pytest.raises(ConfigError, match=r"^\$\.queues\.same\.path: .* of the queue 'other', too"):
        config.load(write(tmp_path, {"root": "root", "queues": {"other": {}, "same": {}}}))


def test_root_behind_a_link_is_fine(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    loaded = config.load(write(tmp_path, {"root": "root", "queues": {"frames": {}}}))
    assert loaded.queues["frames"].path == tmp_path / "root" / "frames"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    sorted(
        {name for shape in config.schema()["$defs"].values() for name in shape.get("properties", {})} | {"frames", "a"}
    )
)
NEARLY = st.recursive(
    JSON, lambda children: st.dictionaries(KEYS, children, max_size=5) | st.lists(children, max_size=3), max_leaves=20
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(document=st.fixed_dictionaries({"queues": st.dictionaries(st.text(max_size=5) | KEYS, NEARLY)}) | NEARLY)
def test_any_json_is_either_valid_or_refused(tmp_path: pathlib.Path, document: Any) -> None:
    loaded, refused = attempt(write(tmp_path, document))
    if loaded is None:
        assert refused.startswith("$")
    else:
        assert loaded.queues.keys() == document["queues"].keys()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_damage_to_the_example_is_either_harmless_or_refused(tmp_path: pathlib.Path, data: st.DataObject) -> None:
    whole = (REPOSITORY / "config" / "queues.json").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from([whole[:at], whole[:at] + whole[at + 1 :], whole[:at] + b"9" + whole[at:]])
        | st.binary(min_size=1, max_size=3).map(lambda junk: whole[:at] + junk + whole[at + len(junk) :])
    )
    loaded, refused = attempt(write(tmp_path, damaged))
    assert loaded is not None or refused.startswith("$")


def test_every_truncation_of_the_example_is_refused(tmp_path: pathlib.Path) -> None:
    whole = (REPOSITORY / "config" / "queues.json").read_bytes().rstrip()
    for length in range(len(whole)):
        assert refusal(tmp_path, whole[:length]).startswith("$: ")


# -- deploying ------------------------------------------------------------------------------------


def rows(plan: config.Plan) -> list[tuple[Action, str, str | None]]:
    return [(row.action, row.queue, row.subscriber) for row in plan.rows]


def stored(path: pathlib.Path) -> tuple[Settings, dict[str, SubscriberSettings]]:
    engine = opener_for(path).open()
    try:
        assert engine.check() == []
        return engine.settings(), engine.subscribers()
    finally:
        engine.close()


def tree(folder: pathlib.Path) -> set[str]:
    return {os.path.relpath(os.path.join(base, name), folder) for base, _, names in os.walk(folder) for name in names}


def test_deploying_creates_and_then_changes_nothing(tmp_path: pathlib.Path) -> None:
    document = queue(
        subscribers={"a": {"lease": 30, "topic_filter": "x.>"}, "b": {}},
        high_water_mark={"max_messages": 10},
        strategy="reject",
        path="deep/frames",
    )
    loaded = config.load(write(tmp_path, document))
    dry = config.deploy(loaded, dry_run=True)
    assert dry.differs
    assert tree(tmp_path) == {"persipubsub.json"}
    done = config.deploy(loaded)
    assert (
        rows(done)
        == rows(dry)
        == [
            (Action.CREATE, "frames", None),
            (Action.CREATE, "frames", "a"),
            (Action.CREATE, "frames", "b"),
        ]
    )
    settings, subscribers = stored(tmp_path / "queues" / "deep" / "frames")
    assert settings == Settings(high_water_mark=HighWaterMark(max_messages=10), strategy=Strategy.REJECT)
    assert subscribers == {"a": SubscriberSettings(lease=30, topic_filter="x.>"), "b": SubscriberSettings()}
    again = config.deploy(loaded)
    assert not again.differs
    assert {row.action for row in again.rows} == {Action.UNCHANGED}


def test_deploying_changes_what_differs_and_keeps_the_messages(tmp_path: pathlib.Path) -> None:
    config.deploy(config.load(write(tmp_path, queue(subscribers=["a", "b"]))))
    path = tmp_path / "queues" / "frames"
    with Environment(path) as environment:
        environment.new_publisher().send(b"kept")
    document = queue(
        subscribers={"a": {"max_deliveries": 3}, "b": {}, "c": {"start": "first"}, "d": {}},
        high_water_mark={"max_messages": 7},
        retention="log",
    )
    loaded = config.load(write(tmp_path, document))
    done = config.deploy(loaded)
    assert rows(done) == [
        (Action.CHANGE, "frames", None),
        (Action.CHANGE, "frames", "a"),
        (Action.UNCHANGED, "frames", "b"),
        (Action.CREATE, "frames", "c"),
        (Action.CREATE, "frames", "d"),
    ]
    assert done.rows[0].details == ("high_water_mark.max_messages: none -> 7", "retention: consumed -> log")
    assert done.rows[1].details == ("max_deliveries: 20 -> 3",)
    settings, subscribers = stored(path)
    assert settings == Settings(high_water_mark=HighWaterMark(max_messages=7), retention=Retention.LOG)
    assert subscribers["a"] == SubscriberSettings(max_deliveries=3)
    with Environment(path) as environment:
        for identifier, expected in (("a", b"kept"), ("b", b"kept"), ("c", b"kept"), ("d", None)):
            message = environment.new_subscriber(identifier).pop(timeout=0)
            assert (message and message.data) == expected
    assert not config.deploy(loaded).differs


def test_nothing_is_removed_unasked(tmp_path: pathlib.Path) -> None:
    config.deploy(config.load(write(tmp_path, {"queues": {"a": {"subscribers": ["x", "y"]}, "b": {}}})))
    smaller = config.load(write(tmp_path, {"queues": {"a": {"subscribers": ["x"]}}}))
    done = config.deploy(smaller)
    assert rows(done) == [
        (Action.UNCHANGED, "a", None),
        (Action.UNCHANGED, "a", "x"),
        (Action.WOULD_REMOVE, "a", "y"),
        (Action.WOULD_REMOVE, "b", None),
    ]
    assert not done.differs
    assert stored(tmp_path / "queues" / "a")[1].keys() == {"x", "y"}
    assert (tmp_path / "queues" / "b").is_dir()


def test_prune_removes_only_queues_of_ours_directly_under_the_root(tmp_path: pathlib.Path) -> None:
    everything = {
        "a": {"subscribers": ["x", "y"]},
        "b": {},
        "deep": {"path": "deep/inside"},
        "kept": {"path": "k/kept"},
    }
    config.deploy(config.load(write(tmp_path, {"queues": everything})))
    root = tmp_path / "queues"
    (root / "photos").mkdir()
    (root / "photos" / "data.mdb").write_bytes(b"not a queue")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("mine")
    config.deploy(config.load(write(tmp_path, {"root": "elsewhere", "queues": {"far": {}}})))
    (root / "link").symlink_to(tmp_path / "elsewhere" / "far")
    smaller = config.load(write(tmp_path, {"queues": {"a": {"subscribers": ["x"]}, "kept": {"path": "k/kept"}}}))
    dry = config.deploy(smaller, dry_run=True, prune=True)
    assert dry.differs
    assert (root / "b").is_dir()
    done = config.deploy(smaller, prune=True)
    assert rows(done) == [
        (Action.UNCHANGED, "a", None),
        (Action.UNCHANGED, "a", "x"),
        (Action.REMOVE, "a", "y"),
        (Action.UNCHANGED, "kept", None),
        (Action.REMOVE, "b", None),
    ]
    assert {path.name for path in root.iterdir()} == {"a", "deep", "k", "photos", "empty", "notes.txt", "link"}
    assert (root / "photos" / "data.mdb").read_bytes() == b"not a queue"
    assert stored(root / "deep" / "inside")
    assert stored(tmp_path / "elsewhere" / "far")
    assert stored(root / "a")[1].keys() == {"x"}


def test_something_else_in_the_way_stops_everything(tmp_path: pathlib.Path) -> None:
    (tmp_path / "queues" / "z").mkdir(parents=True)
    (tmp_path / "queues" / "z" / "data.mdb").write_bytes(b"somebody's")
    with pytest.raises(NotAQueueError):
        config.deploy(config.load(write(tmp_path, {"queues": {"a": {}, "z": {}}})))
    assert tree(tmp_path) == {"persipubsub.json", "queues/z/data.mdb"}


def test_a_file_in_the_way_stops_everything(tmp_path: pathlib.Path) -> None:
    (tmp_path / "queues").mkdir()
    (tmp_path / "queues" / "file").write_text("mine")
    for path in ("file", "file/frames"):
        with pytest.raises(PersipubsubError):
            config.deploy(config.load(write(tmp_path, {"queues": {"a": {}, "z": {"path": path}}})))
    assert tree(tmp_path) == {"persipubsub.json", "queues/file"}


def test_start_that_is_not_retained_stops_everything(tmp_path: pathlib.Path) -> None:
    document = {"queues": {"a": {}, "z": {"subscribers": {"s": {"start": 7}}}}}
    with pytest.raises(ConfigError, match=r"^\$\.queues\.z\.subscribers\.s\.start: The message 7 is not"):
        config.deploy(config.load(write(tmp_path, document)))
    assert tree(tmp_path) == {"persipubsub.json"}
    config.deploy(config.load(write(tmp_path, {"queues": {"z": {"retention": "log"}}})))
    with Environment(tmp_path / "queues" / "z") as environment:
        environment.new_publisher().send_many([b"%d" % number for number in range(1, 10)])
        config.deploy(config.load(write(tmp_path, document)))
        message = environment.new_subscriber("s").pop(timeout=0)
        assert message is not None
        assert message.data == b"7"


def test_an_empty_directory_becomes_a_queue(tmp_path: pathlib.Path) -> None:
    (tmp_path / "queues" / "frames").mkdir(parents=True)
    config.deploy(config.load(write(tmp_path, queue(subscribers=["a"]))))
    assert stored(tmp_path / "queues" / "frames")[1].keys() == {"a"}


def test_deployments_at_the_same_moment_agree(tmp_path: pathlib.Path) -> None:
    document = {"queues": {name: {"subscribers": ["a", "b"]} for name in ("x", "y", "z")}}
    loaded = config.load(write(tmp_path, document))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: config.deploy(loaded), range(4)))
    assert any(plan.differs for plan in plans)
    assert not config.deploy(loaded).differs
    assert sorted(os.listdir(tmp_path / "queues")) == ["x", "y", "z"]


def test_another_deployment_that_comes_first_is_completed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = config.load(write(tmp_path, queue(subscribers=["a"], strategy="reject")))
    theirs = config.load(write(tmp_path, queue(subscribers=["b"])))
    planned = config.plan(mine)
    config.deploy(theirs)
    monkeypatch.setattr(deployment, "plan", lambda *_, **__: planned)
    config.deploy(mine)
    settings, subscribers = stored(tmp_path / "queues" / "frames")
    assert settings.strategy is Strategy.REJECT
    assert subscribers.keys() == {"a", "b"}


def test_durability_is_not_changed_under_another_process(tmp_path: pathlib.Path) -> None:
    config.deploy(config.load(write(tmp_path, queue())))
    path = tmp_path / "queues" / "frames"
    code = "import sys; from persipubsub import Environment\nwith Environment(sys.argv[1]) as environment:\n"
    code += "    environment.new_publisher(); print(flush=True); input()"
    changed = config.load(write(tmp_path, queue(durability="process", retention="log")))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        with pytest.raises(QueueError, match=f"process {other.pid}"):
            config.deploy(changed)
        assert stored(path)[0] == Settings()
        other.communicate(b"\n", timeout=60)
    config.deploy(changed)
    assert stored(path)[0] == Settings(durability=Durability.PROCESS, retention=Retention.LOG)


def test_ephemeral_subscribers_are_left_to_their_programs(tmp_path: pathlib.Path) -> None:
    loaded = config.load(write(tmp_path, queue()))
    config.deploy(loaded)
    with Environment(tmp_path / "queues" / "frames") as environment, environment.new_control() as control:
        control.add_subscriber("tail", ephemeral=True)
        assert not config.deploy(loaded, prune=True).differs
        assert control.subscriber_ids == {"tail"}


def test_from_config_opens_the_queue(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path, queue(subscribers=["a"], path="x/y"))
    config.deploy(config.load(file))
    with Environment.from_config(file, "frames") as environment:
        assert environment.new_publisher().send(b"") == 1
    with pytest.raises(ConfigError, match="it has: frames"):
        Environment.from_config(file, "orders")
