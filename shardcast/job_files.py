"""Files of jobs, in YAML or JSON."""

import yaml


class JobLoader(yaml.SafeLoader):
    """Reads dates and instants as the text they are, since the API takes them as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
