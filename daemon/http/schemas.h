/* Files as texts: the schemas of answers (schemas.json), the page that shows the OpenAPI document (api_docs.html). */
#pragma once
extern const char http_schemas[], http_api_docs[];
