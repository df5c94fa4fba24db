"""HTTP: routes with their request and response schemas, one file a resource."""
