/* The schemas of answers, schemas.json, as text. */
#pragma once
extern const char http_schemas[];
