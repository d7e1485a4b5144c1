"""Who would be meant by a condition."""

from typing import Annotated

from fastapi import APIRouter, Body

from examples.marketing.api.parts import Limit, TheShop
from examples.marketing.api.views import CountView, UserList, UserView
from examples.marketing.personas import audience as audiences
from examples.marketing.personas.conditions import Audience

router = APIRouter(prefix="/audiences", tags=["audiences"])

Given = Annotated[Audience, Body(embed=True)]


@router.post("/count")
def count(audience: Given, shop: TheShop) -> CountView:
    """Looks at all users."""
    with shop.database.reading() as connection:
        return CountView(count=audiences.count(connection, audience, shop.clock()))


@router.post("/preview")
def preview(audience: Given, shop: TheShop, limit: Limit = 20) -> UserList:
    """The first few by id."""
    with shop.database.reading() as connection:
        rows = audiences.preview(connection, audience, shop.clock(), limit)
    return UserList(users=[UserView(**row) for row in rows])
