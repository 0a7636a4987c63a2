#!/usr/bin/env python3
"""Renders templates with Jinja2 as transformers does and writes tests/loaders/jinja_table.json: what they
give.

Needs PyPI's jinja2. --check compares the file with what this version gives. Templates are in tests/loaders:
in jinja_expressions.txt a line each, printed as {{ LINE }}; in jinja_templates.json; and in chat_models/ as
released models have them, in parts or whole.
"""
import json
import os
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

LOADERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "loaders")
TABLE = os.path.join(LOADERS, "jinja_table.json")

TALK = [{"role": "user", "content": "hi hé"}]
LONG = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nb"}, {"role": "user", "content": "c"}]

MODELS = ["chatml", "qwen3", "mistral", "qwen3_coder", "llama", "gemma"]


def text_of(name):
    with open(os.path.join(LOADERS, name), encoding="utf-8") as file:
        return file.read()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            lineno = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

        @jinja2.pass_eval_context
        def _body(self, context, caller):
            return caller()

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: "today"
    return made


def rows():
    templates = [("{{ " + line + " }}", TALK) for line in text_of("jinja_expressions.txt").split("\n")[:-1]]
    templates += [(template, TALK) for template in json.loads(text_of("jinja_templates.json"))]
    models = [text_of(f"chat_models/{name}.jinja") for name in MODELS]
    templates += [(model, talk) for model in models for talk in (TALK, LONG)]
    env = environment()
    for template, talk in templates:
        try:
            wanted = env.from_string(template).render(
                messages=talk, tools=None, documents=None, add_generation_prompt=True, bos_token="<s>",
                eos_token="</s>")
        except Exception:  # whatever it is: refused
            wanted = None
        if wanted is not None and " object at 0x" in wanted:  # an address: no text that anyone means
            wanted = None
        yield {"template": template, "long": talk is LONG, "wanted": wanted}


def main():
    text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows()) + "\n]\n"
    if "--check" in sys.argv:
        if text_of("jinja_table.json") != text:
            sys.exit(TABLE + ": not what jinja2 " + jinja2.__version__ + " gives")
        return
    with open(TABLE, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
