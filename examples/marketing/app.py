"""What executors offer: the one page that says which function answers to which job and which topic.

Start them with `shardcast executor examples.marketing.app:app`, and push consumers, in processes of their own, with
`shardcast executor examples.marketing.app:delivery`.
"""

from examples.marketing.shop import lifespan
from shardcast import Executor

app = Executor("marketing", lifespan=lifespan)
delivery = Executor("marketing-delivery", lifespan=lifespan)
