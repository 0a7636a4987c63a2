// Chat templates of released models rendered as Jinja renders them, and what is refused.
#include <doctest/doctest.h>

#include "loaders/text/chat_template.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

std::string render(const std::string& text, std::vector<ChatMessage> messages = {{"user", "Hi"}}) {
  return render_chat({text, "<s>", "</s>", "test"}, messages);
}

const std::vector<ChatMessage> kTalk{{"user", "a"}, {"assistant", "b"}, {"user", "c"}};

}  // namespace

TEST_CASE("chat: built-in templates") {
  const Scratch scratch;
  const auto built_in = [&](const char* name, const std::vector<ChatMessage>& messages) {
    return render_chat(built_in_chat_template(name, scratch.path()), messages);
  };
  CHECK(built_in("mistral-v1", kTalk) == "<s>[INST] a [/INST]b</s>[INST] c [/INST]");
  CHECK(built_in("chatml", kTalk) ==
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
        "<|im_start|>assistant\n");
  CHECK(built_in("none", {{"user", "as it is"}}) == "as it is");
  check_error(ExitCode::kUsage, "no such template", [&] { built_in("alpaca", kTalk); });
  check_error(ExitCode::kData, "roles must alternate", [&] { built_in("mistral-v1", {{"assistant", "x"}}); });
  check_error(ExitCode::kData, "roles must alternate", [&] {
    built_in("mistral-v1", {{"system", "x"}, {"user", "y"}});
  });
}

TEST_CASE("chat: templates of Qwen and SmolLM add their own system message") {
  const std::string qwen =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + "
      "message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if "
      "add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  CHECK(render(qwen) ==
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n");
  CHECK(render(qwen, {{"system", "S"}, {"user", "Hi"}}) ==
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("chat: a template with a loop over the rest, sets, a namespace and blanks") {
  const std::string text = R"({%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"]|trim + "\n" %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(last=-1, seen=false) %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message.role == "user" %}
        {%- set ns.last = loop.index0 %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + message.content + "[/INST]" }}
        {%- else %}
            {{- "[INST] " ~ message["content"] ~ "[/INST]" }}
        {%- endif %}
    {%- elif not (message.role in ["assistant"]) %}
        {{- raise_exception("no such role") }}
    {%- else %}
        {{- " " + message.content + eos_token}}
    {%- endif %}
{%- endfor %}
{{- " " ~ ns.last if ns.last >= 0 else raise_exception("no user") }}
)";
  CHECK(render(text, kTalk) == "<s>[INST] a[/INST] b</s>[INST] c[/INST] 2");
  CHECK(render(text, {{"system", " S "}, {"user", "x"}}) == "<s>[INST] S\nx[/INST] 0");
  check_error(ExitCode::kData, "no such role", [&] { render(text, {{"tool", "x"}}); });
  check_error(ExitCode::kData, "no user", [&] { render(text, {{"assistant", "x"}}); });
}

TEST_CASE("chat: expressions") {
  const auto value = [](const std::string& expression) { return render("{{ " + expression + " }}"); };
  CHECK(value("1 + 2 * 3") == "7");
  CHECK(value("-7 % 3") == "2");
  CHECK(value("-7 // 2") == "-4");
  CHECK(value("'x' if not none and true or false else 'y'") == "x");
  CHECK(value("messages|length > 1 or messages[-1].role == 'user'") == "True");
  CHECK(value("messages[5] is defined") == "False");
  CHECK(value("nothing is not defined") == "True");
  CHECK(value("['a', 'b'][::-1]|join(', ')") == "b, a");
  CHECK(value("'  a '.strip() + 'abc'.split('b')[1]") == "ac");
  CHECK(value("'abc'.startswith('ab') and 'b' in 'abc' and 'z' not in 'abc'") == "True");
  CHECK(value("messages[0].content|upper") == "HI");
  CHECK(value("missing|default('d')") == "d");
  CHECK(render("a{# note {{ #}b\n  {% if true %}\nc\n  {% endif %}\nd") == "ab\nc\nd");
  CHECK(render("{{ '}}' }}{") == "}}{");
}

TEST_CASE("chat: expressions have Jinja's values, or none") {
  const auto value = [](const std::string& expression) { return render("{{ " + expression + " }}"); };
  CHECK(value("'' | default('z', true)") == "z");
  CHECK(value("none | default('z')") == "None");
  CHECK(value("messages | tojson") == R"([{"role": "user", "content": "Hi"}])");
  CHECK(render("{% set x = none %}{{ x is defined }} {{ x is none }} {{ x }}") == "True True None");
  CHECK(value("missing ~ 'a'") == "a");
  CHECK(value("tools is defined and tools is none") == "True");
  CHECK(value("'a' < 'b'") == "True");
  CHECK(value("'é' > 'z'") == "True");
  CHECK(value("'héé'[1:2] ~ 'héé'|length ~ 'hé'[::-1] ~ 'hé'[-1]") == "é3éhé");
  CHECK(value("'hé'|upper") == "HÉ");
  CHECK(value("['', 'a']|join(',')") == ",a");
  CHECK(value("-3|string") == "-3");
  CHECK(value("1 == true") == "True");
  CHECK(value("2 == messages|length is number") == "False");
  CHECK(value("'xxaxx'.strip('x') ~ 'a.b'.replace('.', '!') ~ 'q\\d'") == "aa!bq\\d");
  CHECK(render("{% for m in [1, 2, 3] %}{{ loop.revindex }}{{ loop.nextitem }}{% endfor %}") == "32231");
  const auto refuse = [&](const std::string& expression, const std::string& part) {
    CAPTURE(expression);
    check_error(ExitCode::kData, part, [&] { value(expression); });
  };
  refuse("missing.role", "a member of an undefined value");
  refuse("'a' + 1", "+ of values that it does not fit");
  refuse("'a' < 1", "no order");
  refuse("messages|tojson(separators=',')", "tojson with separators that are no pair");
  refuse("range(3)", "as text");
  refuse("strftime_now('%d')", "the prompt would change with the date");
  CHECK(render("{% set strftime_now = '2025-06-28' %}{{ 'on ' + strftime_now('%Y-%m-%d') }}") ==
        "on 2025-06-28");
  refuse("'ß'|upper", "has several");
  refuse("'a' * 'b'", "* of values that it does not fit");
  refuse("'\\N{BULLET}'", "escape not known");
  CHECK(value("missing.role if missing is defined else 'n'") == "n");
}

TEST_CASE("chat: scopes of with, filter, call and recursive loops") {
  CHECK(render("{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}") == "211");
  CHECK(render("{% filter upper|replace('A', x) %}{% set x = 'b' %}a-c{% endfilter %}") == "b-C");
  CHECK(render("{% macro f() %}{% set x = 2 %}[{{ caller(x) }}]{% endmacro %}{% set x = 1 %}"
               "{% call(y, z=3) f() %}{{ x }}{{ y }}{{ z }}{% endcall %}") == "[123]");
  const std::string tree = "{% set t = [{'n': 'a', 'c': [{'n': 'b', 'c': []}]}, {'n': 'd', 'c': []}] %}";
  CHECK(render(tree + "{% for x in t recursive %}{{ loop.depth }}{{ x.n }}{{ y is defined }}"
                      "{% set y = 1 %}{{ loop(x.c) }};{% endfor %}") == "1aFalse2bFalse;;1dFalse;");
  CHECK(render("{{ {1: 'a', true: 'b', '1': 'c'} }}") == "{1: 'b', '1': 'c'}");
  // What is written last is done: a body that continue cuts short never came to its end.
  CHECK(render("{% for x in [1] %}{% continue %}{% else %}e{% endfor %}") == "e");
}

TEST_CASE("chat: variables of the template") {
  ChatTemplate chat{"{{ think is false }} {{ n + 1 }} {{ name }} {{ bos_token is defined }}", "", "", "test"};
  for (const char* assignment : {"think=false", "n=2", "name=Ann=1"}) set_chat_variable(assignment, &chat);
  CHECK(render_chat(chat, kTalk) == "True 3 Ann=1 False");
  for (const char* wrong : {"think", "=1", "a b=1", "messages=x"})
    check_error(ExitCode::kUsage, "--chat-set", [&] { set_chat_variable(wrong, &chat); });
}

TEST_CASE("chat: what is not known is refused by name") {
  const auto refuse = [](const std::string& text, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { render(text); });
  };
  refuse("{% include 'x' %}", "statement not known: include");
  refuse("{% call x() %}{% endcall %}", "function not known: x");
  refuse("{% call x %}{% endcall %}", "a call block without a call");
  refuse("{% macro f() %}{% endmacro %}{% call f() %}{% endcall %}", "macro f has no argument caller");
  refuse("{% macro f(caller) %}{{ caller() }}{% endmacro %}", "a parameter caller without a default");
  refuse("{% call dict() %}{% endcall %}", "a call block of something that gives no text");
  refuse(
      "{% set n = namespace() %}{% macro f() %}{% set n.c = caller %}{% endmacro %}"
      "{% call f() %}{% endcall %}{% set g = n.c %}{{ g() }}",
      "a call of a call block's body behind its end");
  refuse("{% for a in [1] %}{% macro f() %}{% endmacro %}{% endfor %}", "a macro inside a block: f");
  refuse("{% filter length %}{% endfilter %}", "a filter block that gives no text");
  refuse("{{ {[1]: 2} }}", "a key that is no text, number, boolean or none");
  refuse("{{ messages|map('x') }}", "filter not known: x");
  refuse("{{ unknown('%d') }}", "function not known: unknown");
  refuse("{{ '{:x}'.format(1) }}", "format with x (expected s, d or f)");
  refuse("{{ 'a'.zfill(1) }}", "method not known: zfill");
  refuse("{{ 1 is callable }}", "is callable");
  refuse("{% if true %}x", "without its end");
  refuse("{% if true %}{% endfor %}", "endfor");
  refuse("{{ 'x }}", "without its closing quote");
  refuse("{{ 1 1 }}", "expected the end of the tag, got 1");
  refuse("{% for a in 3 %}{% endfor %}", "no list");
  refuse("{{ 1 % 0 }}", "division by zero");
  refuse("{{ 200000000000 * 200000000000 }}", "too large");
  refuse("{% for k, v in messages[0].content %}{% endfor %}", "several names");
  refuse("{% for a in [1] %}{{ loop([1]) }}{% endfor %}", "a call of a loop that is not recursive");
  refuse("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "a loop that calls itself too deep");
  refuse("{% set a.b.c = 1 %}", "expected =");
  refuse("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "too deep");
  refuse("{{ 1" + std::string(500, '+') + "1 }}", "nested too deep");
  refuse("{% for a in range(9999999) %}{% endfor %}", "too much work");
  refuse("{{ " + std::string(200, '(') + "1" + std::string(200, ')') + " }}", "nested too deep");
}

TEST_CASE("chat: a table of templates is rendered as Jinja2 renders it, or refused") {
  const std::vector<ChatMessage> talk{{"user", "hi hé"}}, longer{{"system", " Be brief. "},
                                                                 {"user", "a"},
                                                                 {"assistant", "<think>\nx\n</think>\n\nb"},
                                                                 {"user", "c"}};
  const JsonDocument table =
      JsonDocument::read(std::string(EEP_SOURCE_DIR) + "/tests/loaders/jinja_table.json");
  size_t rendered = 0, refused = 0;
  for (const Json& row : table.root().value()) {
    const std::string text = row.at("template");
    CAPTURE(text);
    std::string got;
    try {
      got = render_chat({text, "<s>", "</s>", "test"}, row.at("long").get<bool>() ? longer : talk);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kData);
      ++(row.at("wanted").is_null() ? rendered : refused);
      continue;
    }
    CHECK(row.at("wanted") == got);
    ++rendered;
  }
  CHECK(rendered + refused == table.root().size());
  CHECK(refused == 44);  // what Jinja knows and this does not
}

TEST_CASE("chat: the template of a model directory") {
  const Scratch scratch;
  CHECK(!find_chat_template(scratch.path()));
  check_error(ExitCode::kUsage, "--chat: no chat template in the files of",
              [&] { named_chat_template("", scratch.path()); });
  check_error(ExitCode::kUsage, "--template: no chat template rag in the files of",
              [&] { named_chat_template("rag", scratch.path()); });
  scratch.write("tokenizer_config.json",
                R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>", "chat_template": [
                {"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}!"}]})");
  CHECK(render_chat(*find_chat_template(scratch.path()), kTalk) == "<b>!");
  CHECK(render_chat(named_chat_template("tool_use", scratch.path()), kTalk) == "no");
  scratch.write("chat_template.jinja", "{{ eos_token }}?");
  scratch.write("additional_chat_templates/rag.jinja", "rag");
  CHECK(render_chat(named_chat_template("rag", scratch.path()), kTalk) == "rag");
  check_error(ExitCode::kUsage, "no name of a template",
              [&] { named_chat_template("../x", scratch.path()); });
  // without added_tokens_decoder the map goes before the configuration
  scratch.write("special_tokens_map.json", R"({"eos_token": "<f>"})");
  CHECK(render_chat(*find_chat_template(scratch.path()), kTalk) == "<f>?");
}

}  // namespace eep
