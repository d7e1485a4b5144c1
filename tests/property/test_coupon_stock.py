"""A coupon against a model of it, whatever users, promotions, orders and sweeps do in whatever order."""

from contextlib import ExitStack, suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from examples.marketing.coupons import holding, stock
from examples.marketing.coupons.errors import CouponExpired, CouponNotUsable, CouponSoldOut, CouponTaken
from examples.marketing.coupons.expiry import expire
from examples.marketing.coupons.model import Grant
from examples.marketing.store.tables import coupon_grants
from tests.support.shops import BEGIN, DAY, Clock, add_coupon, add_users, empty_shop, left

USERS = range(1, 4)
users = st.sampled_from(USERS)


class CouponMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clock = Clock()
        self.shop = self.stack.enter_context(empty_shop("sqlite://", self.clock))
        self.states: dict[int, Grant] = {}

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        with self.shop.database.writing() as connection:
            add_users(connection, len(USERS))
            self.coupon = add_coupon(connection, count)
        self.remaining = count

    @property
    def is_over(self) -> bool:
        return self.clock.now >= BEGIN + DAY

    def holds(self, user_id: int, state: Grant) -> bool:
        return self.states.get(user_id) is state

    @rule(user_id=users)
    def claim(self, user_id: int) -> None:
        refusal: type[Exception] | None = None
        if self.is_over:
            refusal = CouponExpired
        elif user_id in self.states:
            refusal = CouponTaken
        elif not self.remaining:
            refusal = CouponSoldOut
        with suppress(refusal) if refusal else ExitStack(), self.shop.database.writing() as connection:
            stock.claim(connection, self.coupon.id, user_id, now_ms=self.shop.now_ms)
            assert refusal is None, f"{refusal} was to be raised"
            self.take(user_id)

    @rule(user_ids=st.lists(users, min_size=1, max_size=4))
    def grant(self, user_ids: list[int]) -> None:
        with self.shop.database.writing() as connection:
            granted = stock.grant(connection, self.coupon, user_ids)
        for user_id in dict.fromkeys(user_ids):
            if user_id not in self.states and self.remaining:
                self.take(user_id)
        held = (Grant.GRANTED, Grant.USED)
        assert granted == {user_id for user_id in user_ids if self.states.get(user_id) in held}

    @rule(user_ids=st.sets(users, min_size=1))
    def use(self, user_ids: set[int]) -> None:
        for user_id in user_ids:
            is_usable = self.holds(user_id, Grant.GRANTED) and not self.is_over
            with suppress(CouponNotUsable), self.shop.database.writing() as connection:
                holding.use(connection, self.coupon.id, user_id, user_id, now_ms=self.shop.now_ms)
                assert is_usable
                self.states[user_id] = Grant.USED
            assert not is_usable or self.holds(user_id, Grant.USED)

    @rule(user_ids=st.sets(users, min_size=1))
    def release(self, user_ids: set[int]) -> None:
        for user_id in user_ids:
            with self.shop.database.writing() as connection:
                holding.release(connection, self.coupon.id, user_id, user_id, now_ms=self.shop.now_ms)
            if self.holds(user_id, Grant.USED):
                self.states[user_id] = Grant.EXPIRED if self.is_over else Grant.GRANTED
                self.remaining += self.is_over

    @rule()
    def sweep(self) -> None:
        due = {user_id for user_id in USERS if self.is_over and self.holds(user_id, Grant.GRANTED)}
        with self.shop.database.writing() as connection:
            grants = [(self.coupon.id, user_id) for user_id in USERS]
            assert expire(connection, grants, now_ms=self.shop.now_ms) == len(due)
        self.states |= dict.fromkeys(due, Grant.EXPIRED)
        self.remaining += len(due)

    @precondition(lambda self: Grant.USED in self.states.values() or not self.remaining)  # or it comes too early
    @rule()
    def let_it_expire(self) -> None:
        self.clock.now = max(self.clock.now, BEGIN + DAY)

    @invariant()
    def agrees(self) -> None:
        with self.shop.database.reading() as connection:
            rows = connection.execute(select(coupon_grants.c.user_id, coupon_grants.c.state)).all()
            assert dict(rows) == self.states
            assert left(connection, self.coupon) == self.remaining
        out = sum(state is not Grant.EXPIRED for state in self.states.values())
        assert self.remaining + out == self.coupon.stock

    def take(self, user_id: int) -> None:
        self.states[user_id] = Grant.GRANTED
        self.remaining -= 1

    def teardown(self) -> None:
        self.stack.close()


TestCoupon = CouponMachine.TestCase
TestCoupon.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
