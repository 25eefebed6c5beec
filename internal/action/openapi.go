package action

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Document describes a table of actions in OpenAPI 3.1. There is one URL for all of them, so each
// has a path that ends in a fragment with its name, which clients do not send; the parameter
// Action says which is meant.
func Document(actions []Action) *openapi3.T {
	doc := &openapi3.T{
		OpenAPI: "3.1.0",
		Info: &openapi3.Info{
			Title:   "Lingyun API",
			Version: "1",
			Description: "Every call goes to one URL with the parameter Action. Parameters are sent in the query, as a form, " +
				"or as a JSON object. Signature is the lower-case hex SHA-1 of all other parameters, sorted by name, " +
				"name and value joined, with the private key behind. Failures are HTTP 200 with RetCode other than 0.",
			License: &openapi3.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: openapi3.Servers{{URL: "/"}},
		Paths:   openapi3.NewPaths(),
		Components: &openapi3.Components{
			SecuritySchemes: openapi3.SecuritySchemes{
				"PublicKey": {Value: openapi3.NewSecurityScheme().WithType("apiKey").WithIn("query").WithName(paramPublicKey)},
				"Signature": {Value: openapi3.NewSecurityScheme().WithType("apiKey").WithIn("query").WithName(paramSignature)},
			},
			Schemas: openapi3.Schemas{},
		},
		Security: openapi3.SecurityRequirements{{"PublicKey": {}, "Signature": {}}},
	}
	codes := make([]any, 0, len(retcode.All))
	for _, e := range retcode.All {
		codes = append(codes, int(e.Code))
	}
	code := &openapi3.Schema{Type: &openapi3.Types{"integer"}, Enum: codes, Description: "0 is success; the others are in docs/status-codes.md"}
	doc.Components.Schemas["RetCode"] = openapi3.NewSchemaRef("", code)

	modules := map[string]bool{}
	for _, a := range actions {
		modules[a.Module] = true
		doc.Paths.Set("/api#"+a.Name, &openapi3.PathItem{Post: a.operation(code)})
	}
	for m := range modules {
		doc.Tags = append(doc.Tags, &openapi3.Tag{Name: m})
	}
	sort.Slice(doc.Tags, func(i, j int) bool { return doc.Tags[i].Name < doc.Tags[j].Name })
	return doc
}

// OpenAPI is Document as JSON.
func OpenAPI(actions []Action) []byte {
	out, err := json.Marshal(Document(actions))
	if err != nil {
		panic("action: the table has no description: " + err.Error())
	}
	return out
}

func (a Action) operation(code *openapi3.Schema) *openapi3.Operation {
	body := openapi3.NewObjectSchema()
	set := func(name string, s *openapi3.Schema, required bool) {
		body.Properties[name] = s.NewRef()
		if required {
			body.Required = append(body.Required, name)
		}
	}
	body.Properties = openapi3.Schemas{}
	set(paramAction, &openapi3.Schema{Type: &openapi3.Types{"string"}, Enum: []any{a.Name}}, true)
	if a.Region != RegionNone {
		set(paramRegion, &openapi3.Schema{Type: &openapi3.Types{"string"}, Description: "region id, from DescribeRegion"}, a.Region == RegionRequired)
	}
	for _, p := range a.Parameters() {
		set(p.Name, p.schema(), p.Required)
	}

	answer := openapi3.NewObjectSchema()
	answer.Required = []string{paramAction, "RetCode", "Message"}
	answer.Properties = fieldSchemas(a.Response())
	answer.Properties[paramAction] = (&openapi3.Schema{Type: &openapi3.Types{"string"}, Enum: []any{a.Name + "Response"}}).NewRef()
	answer.Properties["RetCode"] = openapi3.NewSchemaRef("#/components/schemas/RetCode", code)
	answer.Properties["Message"] = openapi3.NewStringSchema().NewRef()

	description := "Success, or a failure told by RetCode"
	op := &openapi3.Operation{
		OperationID: a.Name,
		Summary:     a.Summary,
		Tags:        []string{a.Module},
		RequestBody: &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).WithContent(openapi3.NewContentWithSchema(body,
			[]string{"application/json", "application/x-www-form-urlencoded"}))},
		Responses: openapi3.NewResponses(openapi3.WithStatus(200, &openapi3.ResponseRef{
			Value: &openapi3.Response{Description: &description, Content: openapi3.NewContentWithJSONSchema(answer)}})),
	}
	if a.Admin {
		op.Description = "For platform administrators."
	}
	if a.Anonymous {
		op.Security = openapi3.NewSecurityRequirements()
	}
	return op
}

func schemaOf(wire string) *openapi3.Schema {
	if inner, ok := strings.CutPrefix(wire, "[]"); ok {
		return openapi3.NewArraySchema().WithItems(schemaOf(inner))
	}
	switch wire {
	case "int":
		return openapi3.NewInt64Schema()
	case "float":
		return openapi3.NewFloat64Schema()
	case "bool":
		return openapi3.NewBoolSchema()
	case "object":
		s := openapi3.NewObjectSchema()
		s.Properties = openapi3.Schemas{}
		return s
	}
	return openapi3.NewStringSchema()
}

func (p Parameter) schema() *openapi3.Schema {
	s := schemaOf(p.Type)
	s.Description = p.Doc
	value := s
	if s.Items != nil {
		value = s.Items.Value
	}
	for _, e := range p.Enum {
		if n, err := strconv.ParseInt(e, 10, 64); err == nil && strings.HasSuffix(p.Type, "int") {
			value.Enum = append(value.Enum, n)
		} else {
			value.Enum = append(value.Enum, e)
		}
	}
	if p.Default != "" {
		s.Default = p.Default
		if n, err := strconv.ParseFloat(p.Default, 64); err == nil && (p.Type == "int" || p.Type == "float") {
			s.Default = n
		} else if p.Type == "bool" {
			s.Default = p.Default == "true"
		}
	}
	lower, upper := bound(p.Min), bound(p.Max)
	switch {
	case s.Items != nil:
		if lower != nil {
			s.MinItems = uint64(*lower)
		}
		s.MaxItems = count(upper)
	case p.Type == "string":
		if lower != nil {
			s.MinLength = uint64(*lower)
		}
		s.MaxLength = count(upper)
	default:
		s.Min, s.Max = lower, upper
	}
	for _, f := range p.Fields {
		value.Properties[f.Name] = f.schema().NewRef()
		if f.Required {
			value.Required = append(value.Required, f.Name)
		}
	}
	return s
}

func bound(s string) *float64 {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return &v
	}
	return nil
}

func count(v *float64) *uint64 {
	if v == nil {
		return nil
	}
	n := uint64(*v)
	return &n
}

func fieldSchemas(fields []Field) openapi3.Schemas {
	out := openapi3.Schemas{}
	for _, f := range fields {
		s := schemaOf(f.Type)
		s.Description = f.Doc
		value := s
		if s.Items != nil {
			value = s.Items.Value
		}
		if len(f.Fields) > 0 {
			value.Properties = fieldSchemas(f.Fields)
		}
		out[f.Name] = s.NewRef()
	}
	return out
}
