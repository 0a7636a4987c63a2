#!/usr/bin/env python3
"""Renders templates with Jinja2 as transformers does and writes what they give: tests/loaders/jinja_table.json.

Needs PyPI's jinja2. --check compares the file with what this version gives.
"""
import json
import os
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, "..", "loaders", "jinja_table.json")

TALK = [{"role": "user", "content": "hi hé"}]
LONG = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nb"}, {"role": "user", "content": "c"}]

# A line each, printed as {{ LINE }}.
EXPRESSIONS = os.path.join(HERE, "..", "loaders", "jinja_expressions.txt")

TEMPLATES = [
    "{{ 'a\\\nb' }}",
    "a{# note {{ #}b\n  {% if true %}\nc\n  {% endif %}\nd",
    "{{ '}}' }}{", "{{ {'a': {'b': 1}} }}", "{{- 'a' -}}  \n b", " \n{{- 'a' }}", "{%- if true -%} x {%- endif -%} y",
    "  {%+ if true %}x{% endif %}", "{% if true +%}\nx{% endif %}", "x {# a -#} y", "x {#- a #} y",
    "a\r\nb\rc{% if true %}\r\nd{% endif %}", "a\n", "a\n\n", "\n", "\n\na", "",
    "\u00a0{%- if true %}\u2003x{% endif -%}\u3000y",
    "{{ 'a' }}\n{{ 'b' }}\n", "x\n    {% if true %}\n    y\n    {% endif %}\n    z",
    "{% if true %}a{% endif %}  {% if true %}b{% endif %}", "{{ 'a' }}  {% if true %}b{% endif %}",
    "{% if true %}\n  {% if true %}\nb{% endif %}\n{% endif %}",
    "{% set x = none %}{{ x is defined }} {{ x is none }} {{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1, 2] %}{% set x = (x or 0) + i %}{{ x }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set ns = {} %}{% set ns.a = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}",
    "{% set t = 1, 2 %}{{ t }}", "{% set x %}a{{ 1 }}b{% endset %}{{ x }}|{{ x|length }}",
    "{% set x | upper %}a{% endset %}{{ x }}", "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% for m in [1, 2, 3] %}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.nextitem }}{{ loop.previtem }}{% endfor %}",
    "{% for m in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{% endfor %}",
    "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for m in [] %}x{% else %}none{% endfor %}", "{% for m in [1] %}x{% else %}none{% endfor %}",
    "{% for m in [1, 2, 3] if m != 2 %}{{ m }}{{ loop.index }}{{ loop.last }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}", "{% for k, v in {'a': 1}|items %}{{ k }}{{ v }}{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}", "{% for a, b in [1] %}{% endfor %}",
    "{% for c in 'hé' %}{{ c }}.{% endfor %}", "{% for x in missing %}x{% endfor %}ok",
    "{% for x in none %}x{% endfor %}", "{% for x in 3 %}x{% endfor %}",
    "{% for x in 1, 2 %}{{ x }}{% endfor %}", "{% for i in range(3) %}{{ i }}{% endfor %}",
    "{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, 2] recursive %}{{ x }}{% endfor %}",
    "{% for m in messages|selectattr('role', 'equalto', 'user') %}{{ m.content }}{% endfor %}",
    "{% set g = messages|map(attribute='role') %}{{ g|list|length }}{{ g|list|length }}",
    "{% macro f(a, b='x') %}[{{ a }}{{ b }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(b=3, a=4) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f() }}|{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% set y = 1 %}{% macro f() %}{{ y }}{% endmacro %}{% set y = 2 %}{{ f() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}x{% endmacro %}{{ f()|upper }}{{ f() ~ 'y' }}{{ f is defined }}",
    "{% macro f() %}{% set z = 1 %}{% endmacro %}{{ f() }}{{ z is defined }}",
    "{%- macro f(m) -%}\n  {{ m.role }}\n{%- endmacro -%}\n{% for m in messages %}{{ f(m) }}{% endfor %}",
    "{% macro f() %}{{ varargs }}{% endmacro %}{{ f(1) }}", "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
    "{% raw %}{{ x }}{% endraw %}", "{% filter upper %}a{% endfilter %}", "{% with x = 1 %}{{ x }}{% endwith %}",
    "{% generation %}a{% endgeneration %}", "{% include 'x' %}", "{% extends 'x' %}", "{% block a %}{% endblock %}",
    "{% do 1 %}", "{% autoescape true %}{{ '<' }}{% endautoescape %}", "{% import 'x' as y %}",
    "{% if true %}x", "{% if true %}{% endfor %}", "{% endif %}", "{% for x in [1] %}", "{% else %}", "{% if %}x{% endif %}",
    "{% if a == 1 if b else c %}x{% endif %}", "{% if messages is defined and messages %}y{% elif true %}z{% endif %}",
    "{% if '' %}a{% elif [] %}b{% elif {} %}c{% elif 0 %}d{% elif none %}e{% elif missing %}f{% else %}g{% endif %}",
    "{% if 0.0 %}a{% else %}b{% endif %}{% if ' ' %}c{% endif %}{% if [0] %}d{% endif %}{% if (0,) %}e{% endif %}",
    "{{ x", "{% if true", "{# x", "{{ }}", "{% %}", "{{ 'a' }", "{ {", "{%", "a{", "{{ '{%' }}{{ \"#}\" }}",
    "{{ loop }}", "{% for x in [1] %}{{ loop }}{% endfor %}", "{{ self }}", "{% set true = 1 %}",
    "{{ messages[0]['content'] | replace('hi', 'ho') | upper }}",
    "{% set m = messages[0] %}{{ m.content.split(' ')[1] }}{{ m['role'][0] }}",
    "{{ 'x' if messages[0].role != 'system' and not (messages|length == 0) else 'y' }}",
]

# As released models have them, in parts or whole.
MODELS = [
    # chatml
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    # thinking of Qwen3
    """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {{- tool_call.name }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    # a loop over the rest, as Mistral's
    """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}""",
    # a macro with a default, as Qwen3-Coder's
    """{% macro render_item_list(item_list, tag_name='required') %}
    {%- if item_list is defined and item_list is iterable and item_list | length > 0 %}
        {%- if tag_name %}{{- '\\n<' ~ tag_name ~ '>' -}}{% endif %}
            {{- '[' }}
                {%- for item in item_list -%}
                    {%- if loop.index > 1 %}{{- ", "}}{% endif -%}
                    {%- if item is string -%}
                        {{ "`" ~ item ~ "`" }}
                    {%- else -%}
                        {{ item }}
                    {%- endif -%}
                {%- endfor -%}
            {{- ']' }}
        {%- if tag_name %}{{- '</' ~ tag_name ~ '>' -}}{% endif %}
    {%- endif %}
{% endmacro %}
{{ render_item_list(['a', 1]) }}{{ render_item_list([], 'x') }}{{- render_item_list(['b'], tag_name='') }}
{%- for message in messages %}
    {%- if message.content is defined and message.content is string and message.content | trim | length > 0 %}
        {{- '\\n' + message.content | trim + '\\n' }}
    {%- endif %}
{%- endfor %}""",
    # a date by default, as Llama's
    """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    # lines of their own, as Gemma's and Granite's
    """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""",
]


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            lineno = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

        @jinja2.pass_eval_context
        def _body(self, context, caller):
            return caller()

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                        extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: "today"
    return made


def rows():
    with open(EXPRESSIONS, encoding="utf-8") as file:
        templates = [("{{ " + line + " }}", TALK) for line in file.read().split("\n")[:-1]]
    templates += [(t, TALK) for t in TEMPLATES]
    templates += [(t, talk) for t in MODELS for talk in (TALK, LONG)]
    env = environment()
    for template, talk in templates:
        try:
            wanted = env.from_string(template).render(messages=talk, tools=None, documents=None,
                                                      add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
        except Exception:  # whatever it is: refused
            wanted = None
        if wanted is not None and " object at 0x" in wanted:  # an address: no text that anyone means
            wanted = None
        yield {"template": template, "long": talk is LONG, "wanted": wanted}


def main():
    text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows()) + "\n]\n"
    if "--check" in sys.argv:
        with open(TABLE, encoding="utf-8") as file:
            if file.read() != text:
                sys.exit(TABLE + ": not what jinja2 " + jinja2.__version__ + " gives")
        return
    with open(TABLE, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
