SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Otherwise the document's address would go to a validator on the internet.
  validatorUrl: null,
});
