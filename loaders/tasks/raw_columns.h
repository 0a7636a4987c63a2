// Fields of flat rows out of the raw rows of downloads. A column is data: its name, where it comes from, and
// a function of this file that makes it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

// A row inside its row inside ...: the outermost first. Paths: `a.b` in the innermost object, `a[].b` of
// every element of a list, `../a` in the object around it, `/a` in the outermost; `a|b`: the first that is
// there.
struct RawScope {
  std::vector<const Json*> objects;
  std::string where;  // file:line
  std::string stem;   // of the file's name
};

// The value at a path. Throws Error(kData) if it is missing; find_raw gives null then.
Json raw_field(const RawScope& scope, std::string_view path);
Json find_raw(const RawScope& scope, std::string_view path);

// Calls `take` for every innermost object of `path` (`qas[]`, `paragraphs[].qas[]`; "": the row itself).
void unnest(const RawScope& scope, std::string_view path, const std::function<void(const RawScope&)>& take);

// Null: the row has no such field, and needs none.
using MakeColumn = Json (*)(const RawScope& scope, std::string_view from);

struct RawColumn {
  std::string_view name, from;
  MakeColumn make;
};

namespace columns {

Json copy(const RawScope& scope, std::string_view from);      // text, number, boolean or list as it is
Json optional(const RawScope& scope, std::string_view from);  // the same, or none
Json truth(const RawScope& scope, std::string_view from);     // a boolean, however it is spelt
Json whole(const RawScope& scope, std::string_view from);     // an integer, however it is spelt
Json distinct(const RawScope& scope, std::string_view from);  // a list without repetitions, in its order
Json position(const RawScope& scope, std::string_view from);  // "labels;key": where the key is among labels
Json option(const RawScope& scope, std::string_view from);    // "list;n": the n-th of exactly four
Json stripped(const RawScope& scope, std::string_view from);
Json list(const RawScope& scope, std::string_view from);          // "a;b;c": their values as a list
Json subject(const RawScope& scope, std::string_view from);       // MMLU: of the file's name, with blanks
Json slice(const RawScope& scope, std::string_view from);         // "text;begin;end": characters
Json final_number(const RawScope& scope, std::string_view from);  // GSM8K: behind "#### ", without commas
Json copa_start(const RawScope& scope, std::string_view from);
Json copa_continuations(const RawScope& scope, std::string_view from);
Json multirc_verdicts(const RawScope& scope, std::string_view from);
Json record_passage(const RawScope& scope, std::string_view from);     // without @highlight
Json record_query(const RawScope& scope, std::string_view from);       // ____ for the gap
Json record_context(const RawScope& scope, std::string_view from);     // highlights as a list
Json record_candidates(const RawScope& scope, std::string_view from);  // the query with each entity
Json record_right(const RawScope& scope, std::string_view from);       // of the candidates
Json wsc_marked(const RawScope& scope, std::string_view from);         // * span 1 *, # span 2 #
Json wsc_passage(const RawScope& scope, std::string_view from);        // *pronoun*, detokenised
Json squad_references(const RawScope& scope, std::string_view from);   // answers or plausible ones
Json squad_answers(const RawScope& scope, std::string_view from);      // "" where there is none
Json drop_references(const RawScope& scope, std::string_view from);    // of the validated answers
Json drop_answers(const RawScope& scope, std::string_view from);       // of all, several spans as a list
Json drop_has_number(const RawScope& scope, std::string_view from);
Json hellaswag_query(const RawScope& scope, std::string_view from);
Json hellaswag_context(const RawScope& scope, std::string_view from);  // behind the first ": "
Json hellaswag_endings(const RawScope& scope, std::string_view from);
Json hellaswag_ending(const RawScope& scope, std::string_view from);  // "n"
Json gap_filled(const RawScope& scope, std::string_view from);        // "sentence;option"
Json gap_before(const RawScope& scope, std::string_view from);        // up to the gap, and the option
Json gap_after(const RawScope& scope, std::string_view from);         // stripped
Json tsv_choices(const RawScope& scope, std::string_view from);       // "(A) ... (B) ..." as a list

}  // namespace columns

}  // namespace eep
