#include "clients/taskerctl/verbs/verbs.h"

static const struct opt validate_options[] = {
    {"strict", 0, NULL, "warnings count as errors", NULL},
    {"environment", 'e', "NAME", "apply this block of `environments` first", NULL},
    NO_OPTION};

static const struct opt apply_options[] = {
    {"strict", 0, NULL, "warnings count as errors", NULL},
    {"replace-unused", 0, NULL, "replace a version that no task was made from", NULL},
    NO_OPTION};

static const struct opt show_options[] = {
    {"definition", 'd', NULL, "print the definition as JSON and nothing else", NULL}, NO_OPTION};

static const struct opt graph_options[] = {
    OPT_FORMAT, OPT_TO_FILE, {"environment", 'e', "NAME", "of a file: apply this block of `environments` first", NULL}, NO_OPTION};

const struct verb template_verbs[] = {
    {.name = "validate",
     .args = "FILE...",
     .kinds = {&kind_file},
     .min_args = 1,
     .max_args = -1,
     .summary = "Check templates without the daemon",
     .help = "All findings of all files are shown as FILE:LINE:COLUMN. - stands for standard input.\n"
             "With --json an array with one object {file, ok, findings} for each file.",
     .opts = validate_options,
     .exits = {{EXIT_NO, "a file has errors"}},
     .examples = {{"Check a template", "taskerctl template validate order.yaml"},
                  {"Check what a program writes", "cat order.yaml | taskerctl template validate -"}},
     .run = run_template_validate},
    {.name = "apply",
     .args = "FILE...",
     .kinds = {&kind_file},
     .min_args = 1,
     .max_args = -1,
     .summary = "Register templates with the daemon",
     .help = "A version that is there with other content cannot be changed: raise the version instead, or, if no\n"
             "task was made from it yet, use --replace-unused.\n"
             "With --json an array with the daemon's answer for each file.",
     .opts = apply_options,
     .asks = "template.apply",
     .exits = {{EXIT_NO, "a file has errors"}, {EXIT_CONFLICT, "that version is there with other content"}},
     .examples = {{"Register a template", "taskerctl template apply order.yaml"},
                  {"Change one that is being written", "taskerctl template apply --replace-unused order.yaml"}},
     .run = run_template_apply},
    {.name = "list",
     .summary = "List the registered templates",
     .opts = namespace_options,
     .asks = "template.list",
     .list = "templates",
     .examples = {{"What there is in a namespace", "taskerctl template list --namespace shop"}},
     .flags = VERB_PAGES,
     .listing = &list_templates,
     .run = run_list},
    {.name = "show",
     .args = "NS/NAME[@VERSION]",
     .kinds = {&kind_template},
     .min_args = 1,
     .max_args = 1,
     .summary = "Show a registered template and its steps",
     .help = "Without a version the newest; without a namespace \"default\".",
     .opts = show_options,
     .asks = "template.get",
     .exits = {{EXIT_NOT_FOUND, "there is no such template"}},
     .examples = {{"The newest version", "taskerctl template show shop/order"},
                  {"Get it back as a file", "taskerctl template show shop/order@1.0.0 --definition > order.json"}},
     .flags = VERB_PAGES,
     .listing = &list_template_steps,
     .run = run_template_show},
    {.name = "graph",
     .args = "FILE|NS/NAME[@VERSION]",
     .kinds = {&kind_template_or_file},
     .min_args = 1,
     .max_args = 1,
     .summary = "Draw the steps of a template",
     .help = "What exists as a file, or ends in .yaml, .yml or .json, is read as one; - is standard input.",
     .opts = graph_options,
     .asks = "template.get",
     .exits = {{EXIT_NO, "the file is no template"}, {EXIT_NOT_FOUND, "there is no such template"}},
     .examples = {{"On the terminal", "taskerctl template graph shop/order"},
                  {"For a page that draws Mermaid", "taskerctl template graph order.yaml --format mermaid --output order.mmd"}},
     .flags = VERB_PAGES,
     .run = run_template_graph},
    {.name = "schema",
     .summary = "Print the JSON Schema of the template format, for editors",
     .examples = {{"For an editor that is told a file", "taskerctl template schema > template.schema.json"}},
     .flags = VERB_PAGES,
     .run = run_template_schema},
    NO_VERB};
