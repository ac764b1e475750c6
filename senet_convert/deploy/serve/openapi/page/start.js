// Swagger UI over this server's description; it keeps a key in this tab alone.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#requests",
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null, // it would send the description to somebody else
});
