"""The API over a real database, a real broker and a real admin."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, update
from sqlalchemy.exc import OperationalError

from examples.marketing.api.__main__ import listen, main
from examples.marketing.api.app import create_app
from examples.marketing.fanout import runs
from examples.marketing.messages import Phase
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import Admin
from examples.marketing.store import launches, promotions
from examples.marketing.store.database import Database
from examples.marketing.store.progress import Counts
from examples.marketing.store.tables import failures
from tests.support.promoting import Scene, a_scene, an_order, once_each, until

USERS = 30


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Its executor runs, its steward does when a test says so."""
    with a_scene(tmp_path_factory.mktemp("shop"), USERS, start=None) as scene:
        yield scene


@pytest.fixture(scope="module")
def api(scene: Scene) -> Iterator[TestClient]:
    app = create_app(scene.shop.settings, scene.shop.clock)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def order(scene: Scene, **fields: object) -> dict[str, Any]:
    """For the day after tomorrow, so that nothing of it moves by itself."""
    given = {"send_at": scene.server.now + timedelta(days=2), **fields}
    body: dict[str, Any] = json.loads(an_order(scene.server.now, **given).model_dump_json(by_alias=True))
    return body


def saved(api: TestClient, scene: Scene, **fields: object) -> int:
    answer = api.post("/promotions", json=order(scene, **fields))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def test_the_key_of_a_request_stands_for_its_promotion(api: TestClient, scene: Scene) -> None:
    body, key = order(scene), {"Idempotency-Key": "k"}
    first, again = (api.post("/promotions", json=body, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    other = api.post("/promotions", json={**body, "message": "Only tomorrow"}, headers=key)
    assert problem(other)[:2] == (409, "promotion_differs")
    assert problem(api.post("/promotions", json=body, headers={"Idempotency-Key": "k" * 65}))[:2] == (
        422,
        "bad_request",
    )


def move(scene: Scene, promotion_id: int, *verbs: Verb) -> None:
    with scene.shop.database.writing() as connection:
        for verb in verbs:
            promotions.move(connection, promotion_id, verb, reason="", now_ms=scene.shop.now_ms)


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body.keys() == {"type", "title", "status", "code", "detail"}
    assert "Traceback" not in answer.text
    return answer.status_code, body["code"], body["detail"]


def test_a_promotion_goes_out_by_a_post_and_is_seen_to_its_end(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene, send_at=None)
    progress = f"/promotions/{promotion_id}/progress"
    promotion = promotions_of(scene, promotion_id)
    until(lambda: scene.sent(promotion) == once_each(range(1, USERS + 1)))
    scene.handle(promotion, Counts(delivered=20, failed=1))
    seen = api.get(progress).json()
    assert (seen["state"], seen["phase"], seen["expected"]) == ("running", "rest", USERS)
    assert (seen["delivered"], seen["failed"], seen["share_done"]) == (20, 1, 0.7)
    assert seen["rate"] > 0
    assert seen["eta_seconds"] == pytest.approx(9 / seen["rate"])
    scene.handle(promotion, Counts(delivered=9))
    scene.steward()
    seen = api.get(progress).json()
    assert (seen["state"], seen["share_done"], seen["eta_seconds"]) == ("completed", 1.0, None)


def promotions_of(scene: Scene, promotion_id: int) -> promotions.Promotion:
    with scene.shop.database.reading() as connection:
        return promotions.get(connection, promotion_id)


def test_a_promotion_is_saved_changed_by_either_address_and_read_again(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene)
    by_post = api.post(f"/promotions?id={promotion_id}", json=order(scene, message="Two"))
    by_put = api.put(f"/promotions/{promotion_id}", json=order(scene, message="Three"))
    assert (by_post.status_code, by_post.json()["version"], by_post.json()["order"]["message"]) == (200, 2, "Two")
    assert (by_put.status_code, by_put.json()["version"]) == (200, 3)
    assert api.get(f"/promotions/{promotion_id}").json() == by_put.json()


def test_an_order_comes_back_as_it_was_given(api: TestClient, scene: Scene) -> None:
    given = order(
        scene,
        promotion_type="designated_coupon",
        audience={"not": {"any": [{"field": "city", "among": ["Oslo"]}, {"field": "last_order", "within": "P30D"}]}},
        coupon={"name": "5", "value_cents": 500, "stock": 0, "expires_at": "2030-01-01T00:00:00Z"},
        steering={"quiet": {"begin": "22:00", "end": "08:00", "zone": "Asia/Shanghai"}, "rate": 5},
    )
    answer = api.post("/promotions", json=given).json()
    assert answer["order"] == given
    assert given["audience"]["not"]["any"][0] == {"field": "city", "among": ["Oslo"]}


def test_promotions_are_listed_newest_first_page_by_page(api: TestClient, scene: Scene) -> None:
    newest = [saved(api, scene) for _ in range(3)][::-1]
    page = api.get("/promotions?limit=2").json()
    assert [each["id"] for each in page["promotions"]] == newest[:2]
    assert page["next_before"] == newest[1]
    found, before = list[int](), None
    while True:
        page = api.get("/promotions", params={"limit": 2} | ({"before": before} if before else {})).json()
        found += [each["id"] for each in page["promotions"]]
        if (before := page["next_before"]) is None:
            break
    assert found == sorted(found, reverse=True)
    assert set(newest) < set(found)


def test_what_is_no_order_is_refused_in_one_sentence_and_nothing_is_saved(api: TestClient, scene: Scene) -> None:
    good, known = order(scene), api.get("/promotions").json()
    coupon = {"name": "5", "value_cents": 500, "stock": -1, "expires_at": "2030-01-01T00:00:00Z"}
    designated = {"promotion_type": "designated_coupon", "coupon": {**coupon, "stock": 1}}
    for changes, code, told in [
        ({"ends_at": good["starts_at"]}, "bad_request", "it: a promotion cannot end before it starts."),
        ({"inform_type": "pigeon"}, "bad_request", "inform_type: Input should be 'app_push', 'sms' or 'mail'."),
        (
            {"promotion_type": "platform_coupon", "coupon": coupon},
            "bad_request",
            "coupon.stock: Input should be greater than or equal to 0.",
        ),
        (
            {**designated, "audience": {"field": "shoe_size", "least": 1}},
            "bad_request",
            "audience.field: Input tag 'shoe_size' found using 'field' does not match any of the expected tags: ",
        ),
        (
            {**designated, "audience": {"field": "age", "least": 200}},
            "empty_audience",
            "The audience is nobody: no user meets it.",
        ),
        ({"main_message": "", "message": ""}, "bad_request", "main_message: String should have at least 1 character; "),
        (
            {"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2020-01-02T00:00:00Z", "send_at": None},
            "bad_request",
            "A promotion that has ended already cannot be saved.",
        ),
    ]:
        status, *rest = problem(api.post("/promotions", json={**good, **changes}))
        assert (status, rest[0]) == (422, code)
        assert rest[1].startswith(told)
    assert api.get("/promotions").json() == known


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(api: TestClient, body: bytes) -> None:
    status, code, _ = problem(api.post("/promotions", content=body, headers={"content-type": "application/json"}))
    assert (status, code) in ((422, "bad_request"), (400, "bad_request"))


def test_a_condition_that_is_nested_without_end_is_refused(api: TestClient) -> None:
    body = b'{"audience":' + b'{"not":' * 500 + b"{}" + b"}" * 500 + b"}"
    status, code, told = problem(
        api.post("/audiences/count", content=body, headers={"content-type": "application/json"})
    )
    assert (status, code, told) == (422, "bad_request", "audience: a condition nests at most 16 deep.")


def test_a_body_without_end_is_not_read_to_its_end(api: TestClient) -> None:
    body = b'{"message": "' + b"x" * (2 << 20) + b'"}'
    told = problem(api.post("/promotions", content=body, headers={"content-type": "application/json"}))
    assert told[0] == 413
    assert "at most 1048576 bytes" in told[2]


def test_ten_thousand_unknown_fields_are_refused_in_a_short_answer(api: TestClient) -> None:
    answer = api.post("/promotions", json={f"field_{number}": number for number in range(10_000)})
    assert problem(answer)[:2] == (422, "bad_request")
    assert len(answer.content) < 4_000


@pytest.mark.parametrize("after", [2**63, -(2**63) - 1, 10**30])
def test_a_place_that_no_database_has_is_refused(api: TestClient, scene: Scene, after: int) -> None:
    failures_of = f"/promotions/{saved(api, scene)}/failures"
    assert problem(api.get(failures_of, params={"after": after}))[:2] == (422, "bad_request")
    assert api.get(failures_of, params={"after": -(2**62)}).json() == {"failures": [], "next_after": None}


def test_a_coupon_that_has_expired_cannot_be_given(api: TestClient, scene: Scene) -> None:
    coupon = {"name": "5", "value_cents": 500, "stock": 1, "expires_at": scene.server.now.isoformat()}
    told = problem(api.post("/promotions", json=order(scene) | {"promotion_type": "platform_coupon", "coupon": coupon}))
    assert told == (422, "bad_request", "A coupon that has expired already cannot be given.")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/progress"),
        ("GET", "/failures"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/cancel"),
        ("POST", "/resend"),
        ("PATCH", "/steering"),
    ],
)
def test_what_is_no_promotion_is_not_found(api: TestClient, method: str, path: str) -> None:
    body = {} if method == "PATCH" else None
    told = problem(api.request(method, f"/promotions/{2**63 - 1}{path}", json=body))
    assert told == (404, "not_found", f"There is no promotion {2**63 - 1}.")
    assert problem(api.request(method, f"/promotions/{2**63}{path}", json=body))[:2] == (422, "bad_request")


def test_other_addresses_and_verbs_are_problems_too(api: TestClient) -> None:
    assert problem(api.get("/nothing"))[:2] == (404, "not_found")
    assert problem(api.delete("/promotions/1"))[:2] == (405, "method_not_allowed")


def test_a_promotion_is_paused_resumed_and_cancelled_by_the_table_of_its_states(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene)
    at = f"/promotions/{promotion_id}"
    assert problem(api.post(f"{at}/pause"))[:2] == (409, "wrong_state")
    move(scene, promotion_id, Verb.LAUNCH)
    assert api.post(f"{at}/pause").json()["state"] == "paused"
    assert api.post(f"{at}/resume").json()["state"] == "running"
    assert problem(api.put(at, json=order(scene)))[1:] == (
        "wrong_state",
        f"Promotion {promotion_id} is running: change is not possible.",
    )
    assert api.post(f"{at}/cancel").json()["state"] == "cancelled"
    assert problem(api.post(f"{at}/resume"))[:2] == (409, "wrong_state")
    assert problem(api.patch(f"{at}/steering", json={"rate": 1}))[:2] == (409, "wrong_state")


def test_one_that_is_held_goes_on_to_all_the_others_when_it_is_resumed(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene, steering={"canary": {"share": 0.1}})
    move(scene, promotion_id, Verb.LAUNCH, Verb.HOLD)
    resumed = api.post(f"/promotions/{promotion_id}/resume").json()
    assert (resumed["state"], resumed["phase"]) == ("running", "rest")
    move(scene, promotion_id, Verb.CANCEL)


def test_steering_changes_what_is_given_and_leaves_the_rest(api: TestClient, scene: Scene) -> None:
    quiet = {"begin": "22:00:00", "end": "08:00:00", "zone": "Asia/Shanghai"}
    at = f"/promotions/{saved(api, scene, steering={'rate': 100, 'canary': {'share': 0.1}})}/steering"
    assert api.patch(at, json={"quiet": quiet}).json()["order"]["steering"]["rate"] == 100
    steered = api.patch(at, json={"rate": None, "cap": {"most": 2, "hours": 24}}).json()["order"]["steering"]
    assert steered == {
        "rate": None,
        "quiet": quiet,
        "cap": {"most": 2, "hours": 24},
        "canary": {"share": 0.1, "hold_above": 0.05},
    }
    assert problem(api.patch(at, json={"canary": None}))[:2] == (422, "bad_request")
    assert problem(api.patch(at, json={"rate": 0}))[1:] == (
        "bad_request",
        "rate: Input should be greater than or equal to 1.",
    )


def test_a_cancelled_promotion_takes_its_runs_along(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene, way="shards", steering={"rate": 1})
    move(scene, promotion_id, Verb.LAUNCH, Verb.PAUSE)  # the run waits with it
    with scene.shop.database.writing() as connection:
        promotions.claim_launch(connection, promotion_id, Phase.REST, "event")
    run_id = runs.start_sending(scene.shop, promotion_id, Phase.REST)
    with scene.shop.database.writing() as connection:
        launches.claim_run(connection, promotion_id, Phase.REST, run_id)
    assert api.post(f"/promotions/{promotion_id}/cancel").json()["state"] == "cancelled"
    assert scene.server.wait(run_id, state=None).state in ("cancelled", "skipped")


def fail(scene: Scene, promotion_id: int, *user_ids: int) -> None:
    with scene.shop.database.writing() as connection:
        row = {"promotion_id": promotion_id, "reason": "no such phone", "failed_at_ms": 1, "resend": 0}
        connection.execute(insert(failures), [{**row, "user_id": user_id} for user_id in user_ids])


def test_those_that_failed_are_listed_and_sent_again_once(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene)
    at = f"/promotions/{promotion_id}"
    assert problem(api.post(f"{at}/resend"))[:2] == (409, "wrong_state")
    move(scene, promotion_id, Verb.LAUNCH, Verb.COMPLETE)
    assert problem(api.post(f"{at}/resend"))[:2] == (409, "nothing_to_resend")
    fail(scene, promotion_id, 7, 11, 5)
    first = api.get(f"{at}/failures?limit=2").json()
    assert ([each["user_id"] for each in first["failures"]], first["next_after"]) == ([5, 7], 7)
    (last,) = api.get(f"{at}/failures?limit=2&after=7").json()["failures"]
    assert last == {"user_id": 11, "reason": "no such phone", "failed_at_ms": 1, "resend": 0}

    answer = api.post(f"{at}/resend")
    assert (answer.status_code, answer.json()["resend"]) == (202, 1)
    assert answer.json()["promotion"]["state"] == "running"
    assert api.get(f"{at}/progress").json()["published"] == 3
    (run,) = [run for run in scene.server.runs("marketing-resend") if run.params["promotion_id"] == promotion_id]
    scene.server.wait(run)
    promotion = promotions_of(scene, promotion_id)
    assert scene.sent(promotion) == once_each([5, 7, 11])
    assert problem(api.post(f"{at}/resend"))[:2] == (409, "nothing_to_resend")
    scene.handle(promotion, Counts(delivered=3))

    with scene.shop.database.writing() as connection:  # one of them fails again
        connection.execute(update(failures).where(failures.c.user_id == 5).values(resend=0))
    assert api.post(f"{at}/resend").json()["resend"] == 2
    until(lambda: scene.sent(promotion)[5] == 2)
    assert scene.sent(promotion) == {5: 2, 7: 1, 11: 1}


def test_a_resend_that_the_admin_did_not_hear_of_is_started_by_the_next_call(api: TestClient, scene: Scene) -> None:
    promotion_id = saved(api, scene)
    move(scene, promotion_id, Verb.LAUNCH, Verb.COMPLETE)
    fail(scene, promotion_id, 5)
    away = scene.shop.settings.model_copy(update={"admin": Admin(server="http://127.0.0.1:9")})
    with TestClient(create_app(away, scene.shop.clock), raise_server_exceptions=False) as lonely:
        assert problem(lonely.post(f"/promotions/{promotion_id}/resend"))[:2] == (503, "unreachable")
        assert lonely.get(f"/promotions/{promotion_id}/progress").json()["published"] == 1
    assert api.post(f"/promotions/{promotion_id}/resend").json()["resend"] == 1
    until(lambda: scene.sent(promotions_of(scene, promotion_id)) == once_each([5]))
    assert api.get(f"/promotions/{promotion_id}/progress").json()["published"] == 1


def test_an_audience_is_counted_and_seen_before_anything_is_sent(api: TestClient) -> None:
    paris = {"audience": {"field": "city", "among": ["Paris"]}}
    assert api.post("/audiences/count", json=paris).json() == {"count": 10}
    seen = api.post("/audiences/preview?limit=2", json=paris).json()["users"]
    assert [user["id"] for user in seen] == [3, 6]
    assert seen[0] == {
        "id": 3,
        "name": "u",
        "city": "Paris",
        "level": "gold",
        "age": 30,
        "last_order_on": None,
        "spent_90d_cents": 0,
    }
    assert problem(api.post("/audiences/count", json={"audience": {}}))[:2] == (422, "bad_request")


def test_what_goes_wrong_inside_is_for_the_log_alone(
    api: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Database, "reading", breaks)
    assert problem(api.get("/promotions")) == (500, "internal", "Something failed inside; the log says more.")
    assert "secret" in caplog.text


def test_a_database_that_is_away_is_told_of(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise OperationalError("SELECT secret", {}, Exception())

    monkeypatch.setattr(Database, "reading", breaks)
    assert problem(api.get("/promotions"))[:2] == (503, "database_away")


def test_the_api_describes_itself(api: TestClient) -> None:
    described = api.get("/openapi.json").json()
    assert {"/promotions", "/promotions/{promotion_id}/steering", "/audiences/preview"} < described["paths"].keys()
    kinds = {name.partition("-")[0] for name in described["components"]["schemas"]}
    assert {"PromotionOrder", "AllOf", "AnyOf", "NotOf", "Span", "LastOrder"} < kinds


def test_the_process_says_when_it_answers_and_ends_soon_when_it_is_told_to(scene: Scene) -> None:
    command = [sys.executable, "-m", "examples.marketing.api", "--port", "0", "--config", str(scene.settings_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] == "api"
        with httpx.Client(base_url=f"http://{ready['http']}") as client:  # a connection that stays open
            assert client.post("/promotions", json=order(scene)).status_code == 201
            process.send_signal(signal.SIGTERM)
            told_at = time.monotonic()
            assert process.wait(10) == 0
            assert time.monotonic() - told_at < 3
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("settings", "port", "exit_code", "told"),
    [
        ("colour: red", "0", 78, "colour: Extra inputs are not permitted."),
        ("database: 'sqlite:////nowhere/at/all.db'", "0", 69, "The database cannot be used"),
        ("database: 'postgresql+no_such_driver://shop@localhost/shop'", "0", 78, "database"),
        ("database: 'mssql://shop@localhost/shop'", "0", 78, "database"),  # of SQLAlchemy, without its package
        ("database: shop.db", "0", 78, "database"),
        ("limits: redis", "0", 78, "limits"),
        ("", "TAKEN", 73, "Address already in use."),
        ("", "99999", 73, "port must be 0-65535."),
    ],
)
def test_what_keeps_it_from_starting_is_told_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    settings: str,
    port: str,
    exit_code: int,
    told: str,
) -> None:
    (tmp_path / "marketing.yaml").write_text(settings)
    with listen("127.0.0.1", 0) as taken:
        port = port.replace("TAKEN", str(taken.getsockname()[1]))
        monkeypatch.setattr(sys, "argv", ["api", "--port", port, "--config", str(tmp_path / "marketing.yaml")])
        with pytest.raises(SystemExit) as ended:
            main()
    said, error = capsys.readouterr()
    assert (ended.value.code, said) == (exit_code, "")
    assert told in error
    assert error.count("\n") == 1
