"""The verbs that the admin offers to people and programs; every interface goes through them."""
