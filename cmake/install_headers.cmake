# Run by `cmake --install`: the public headers, with what they include, under <prefix>/include/eep. Their
# includes are written from there ("eep/engine/forward.h"), so that no name of ours collides with one of the
# user's. In: EEP_SOURCE, EEP_BINARY, EEP_INCLUDEDIR.
cmake_policy(VERSION 3.25)
set(public
    engine/calibration.h engine/config.h engine/expert_plan.h engine/forward.h engine/memory_plan.h
    engine/ops.h engine/prompts.h engine/raw_model.h engine/taps.h engine/weights.h
    es/algorithm.h es/algorithms.h es/archive.h es/criteria.h es/genome.h es/search.h es/statistics_io.h
    loaders/formats/safetensors.h
    loaders/models/checkpoint.h loaders/models/coefficients.h loaders/models/export.h
    loaders/models/gguf_convert.h loaders/models/keep_list.h loaders/models/moefy.h loaders/models/plan_io.h
    loaders/models/verify.h
    loaders/tasks/import.h loaders/tasks/metric.h loaders/tasks/requests.h loaders/tasks/task.h
    loaders/text/chat_template.h loaders/text/tokenizer.h)

set(stage ${EEP_BINARY}/installed_headers)
file(REMOVE_RECURSE ${stage})
set(waiting ${public})
set(seen)
while(waiting)
  list(POP_FRONT waiting header)
  if(header IN_LIST seen)
    continue()
  endif()
  list(APPEND seen ${header})
  file(READ ${EEP_SOURCE}/${header} text)
  string(REGEX MATCHALL "#include \"(kernels|engine|es|loaders)/[^\"]+\"" includes "${text}")
  foreach(line ${includes})
    string(REGEX REPLACE "#include \"(.*)\"" "\\1" name "${line}")
    list(APPEND waiting ${name})
  endforeach()
  string(REGEX REPLACE "#include \"(kernels|engine|es|loaders)/" "#include \"eep/\\1/" text "${text}")
  file(WRITE ${stage}/eep/${header} "${text}")
endwhile()
file(INSTALL ${stage}/eep DESTINATION ${CMAKE_INSTALL_PREFIX}/${EEP_INCLUDEDIR})
