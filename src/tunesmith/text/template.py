"""Chat templates: messages to text, as transformers' `apply_chat_template` writes it.

    source = template_of(tokenizer)                        # the model's own, or a default when it has none
    render(source, [{"role": "user", "content": "hi"}], variables=variables_of(tokenizer))  ->  "<|user|>hi<|end|>"

A template is code that came with a model, so it runs in jinja's immutable sandbox and sees only JSON values. The
environment is that of transformers (5.x, utils/chat_template_utils.py): trim_blocks, lstrip_blocks, tojson that keeps
Korean readable, raise_exception, strftime_now, loop controls, the generation tag.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

from tunesmith.core.errors import DataError, ModelError
from tunesmith.text.tokenizer import NAMED_TOKENS, Tokenizer

# For models without a template. With ChatML's tokens in the vocabulary we speak ChatML, else plain headings, each
# answer ended by the model's own end-of-text token, because a model that never sees its stop token never stops.
CHATML_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"
)
DEFAULT_TEMPLATE = (
    "{{- bos if bos else '' }}"
    "{%- for message in messages %}"
    "{%- if message.role == 'system' %}{{- message.content + '\\n\\n' }}"
    "{%- elif message.role == 'user' %}{{- '### User:\\n' + message.content + '\\n\\n' }}"
    "{%- elif message.role == 'assistant' %}"
    "{{- '### Assistant:\\n' + (message.content | trim) + eos_token + '\\n\\n' }}"
    "{%- else %}{{- raise_exception('The default template has no place for the role ' + message.role) }}{% endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '### Assistant:\\n' }}{% endif %}"
)


def template_of(tokenizer: Tokenizer, tools: bool = False) -> str:
    """The jinja source this tokenizer's chats are written with."""
    named = tokenizer.chat_templates
    if tools and "tool_use" in named:
        return named["tool_use"]
    if "default" in named:
        return named["default"]
    if named:
        raise ModelError(
            f"The model has chat templates named {', '.join(sorted(named))}, none of them the default.",
            fix="Save the one you want as chat_template.jinja in the model's folder.",
        )
    if tokenizer.id_of("<|im_start|>") is not None and tokenizer.id_of("<|im_end|>") is not None:
        return CHATML_TEMPLATE
    if tokenizer.eos is None:
        raise ModelError(
            "The model has no chat template and its tokenizer no eos token, so an answer could never end.",
            fix='Add "eos_token" to tokenizer_config.json, or a chat_template.jinja.',
        )
    return DEFAULT_TEMPLATE


def variables_of(tokenizer: Tokenizer) -> dict[str, str]:
    """The named tokens a template may use, as transformers passes them."""
    found = {}
    for name in NAMED_TOKENS:
        value = tokenizer.config.get(name)
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str):
            found[name] = value
    if not tokenizer.chat_templates and tokenizer.adds_bos and tokenizer.bos_token:
        found["bos"] = tokenizer.bos_token  # for DEFAULT_TEMPLATE: a model's own knows whether to write it
    return found


def render(
    source: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    add_generation_prompt: bool = False,
    variables: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> str:
    """Text of a conversation. Raises DataError with the template's own words when it refuses the messages."""
    values = dict(variables or {})
    if now is not None:
        values["strftime_now"] = now.strftime
    aliased = [
        {"thinking": message["reasoning_content"], **message} if "reasoning_content" in message else message
        for message in messages
    ]
    try:
        return compiled(source).render(
            messages=aliased, tools=tools, documents=None, add_generation_prompt=add_generation_prompt, **values
        )
    except jinja2.TemplateError as error:
        raise DataError(f"The model's chat template refuses this conversation: {error}") from error
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # raised by the template's own expressions
        raise DataError(f"The model's chat template fails on this conversation: {error}") from error


@lru_cache(maxsize=32)
def compiled(source: str) -> jinja2.Template:
    """The template, compiled once (some 10 ms) and kept."""
    try:
        return environment().from_string(source)
    except jinja2.TemplateError as error:
        raise ModelError(f"The model's chat template is not valid jinja: {error}") from error


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The sandbox of transformers, value for value."""
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    env.globals["dict"] = _Dict()
    env.globals["namespace"] = _Namespace
    return env


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`: marks the assistant's part for transformers; the text passes through.

    We find that part ourselves, so that templates without the tag work as well. The block keeps a scope of its own, as
    there: variables set inside do not leak out.
    """

    tags = {"generation"}  # noqa: RUF012 - the name and type jinja gives it

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller: Any) -> str:
        return caller()


class _Dict:
    """`dict` for templates: makes dictionaries and offers nothing else to climb on."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """`namespace` without names that start with an underscore (a known way out of the sandbox)."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no named self, so that namespace(self=1) works
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            _refuse_private(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"A chat template may not store {name!r} in a namespace.")


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
