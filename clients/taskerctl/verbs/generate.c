#include "clients/taskerctl/verbs/verbs.h"

#define GENERATE                                                                                                       \
	{"language", 'l', "NAME", "python, ruby, typescript, rust or c", &kind_language},                              \
	{                                                                                                              \
		"force", 0, NULL, "overwrite files that are there", NULL                                               \
	}

static const struct opt types_options[] = {
    GENERATE,
    {"style", 0, "NAME", "python: dataclass, pydantic; ruby: struct, data, dry; typescript: interface, zod",
     &kind_style},
    OPT_TO_FILE,
    NO_OPTION};

static const struct opt handler_options[] = {
    GENERATE, {"step", 0, "NAME", "of this step only", &kind_step_name}, OPT_TO_FILE, NO_OPTION};

static const struct opt scaffold_options[] = {
    GENERATE, {"output", 'o', "DIR", "the directory; by default the template's name", &kind_dir}, NO_OPTION};

const struct verb generate_verbs[] = {
	{.name = "types",
         .args = "FILE|NS/NAME[@VERSION]",
         .kinds = {&kind_template_or_file},
         .min_args = 1,
         .max_args = 1,
         .summary = "Write types of a template's schemas",
         .help = "One type for the task's context (input_schema), one for each result_schema and each schema of an event, and those "
                 "they\nare made of. What exists as a file, or ends in .yaml, .yml or .json, is read as one.",
         .opts = types_options,
         .asks = "template.get",
         .exits = {{EXIT_NO, "the file is no template"}, {EXIT_NOT_FOUND, "there is no such template"}},
         .examples = {{"Types for pydantic", "taskerctl generate types order.yaml --language python --style pydantic"}},
         .flags = VERB_PAGES,
         .run = run_generate_types},
	{.name = "handler",
         .args = "FILE|NS/NAME[@VERSION]",
         .kinds = {&kind_template_or_file},
         .min_args = 1,
         .max_args = 1,
         .summary = "Write handlers for a template's steps, to be filled in",
         .help = "Each returns a value that fits its step's schema. Publishers that events name come behind them (not in C).",
         .opts = handler_options,
         .asks = "template.get",
         .exits = {{EXIT_NO, "the file is no template"}, {EXIT_NOT_FOUND, "there is no such template"}},
         .examples = {{"Handlers in Ruby of a registered template",
                       "taskerctl generate handler shop/order --language ruby --output handlers.rb"}},
         .flags = VERB_PAGES,
         .run = run_generate_handler},
	{.name = "scaffold",
         .args = "FILE|NS/NAME[@VERSION]",
         .kinds = {&kind_template_or_file},
         .min_args = 1,
         .max_args = 1,
         .summary = "Make a project: template, types, handlers and a test that runs",
         .opts = scaffold_options,
         .asks = "template.get",
         .exits = {{EXIT_NO, "a file is there already, or the file is no template"},
                   {EXIT_NOT_FOUND, "there is no such template"}},
         .examples = {{"A project in a directory of its own",
                       "taskerctl generate scaffold order.yaml --language python --output order-project"}},
         .run = run_generate_scaffold},
	NO_VERB};
