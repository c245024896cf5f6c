/* Inside of the template, for template.c and the drawings. */
#pragma once
#include "daemon/template/dag.h"
#include "daemon/template/template.h"
#include "daemon/template/yaml_tree.h"

struct template
{
	struct yaml_tree *tree;
	const struct ynode *root; /* environments applied */
	const struct ynode *steps;
	struct dag dag;
	char *definition; /* JSON */
	size_t definition_len;
	char digest[65];
};

const struct ynode *template_step(const struct template *t, uint32_t no);
