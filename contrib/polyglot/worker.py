"""The Python steps: the first, one on the way, and the last."""

import platform

from taskerd.step_handler.functional import step_handler


@step_handler("polyglot.begin")
def begin(context):
    """Nothing has been counted yet."""
    return {"n": 0, "said": [f"hello {context.get_input('name')}"]}


@step_handler("polyglot.python")
def python(context):
    """One more than the step before."""
    before = context.get_dependency_result(context.get_config("after"))
    return {"n": before["n"] + 1, "language": "Python", "runtime": platform.python_version()}


@step_handler("polyglot.end")
def end(context):
    """Every language has seen the number of the one before."""
    results = [context.get_dependency_result(name) for name in context.get_dependency_result_keys()]
    steps = sorted((r for r in results if "language" in r), key=lambda r: r["n"])
    if [r["n"] for r in steps] != list(range(1, len(steps) + 1)):
        raise ValueError(f"somebody cannot count: {steps}")
    return {"languages": [r["language"] for r in steps]}
