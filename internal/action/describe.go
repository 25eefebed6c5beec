package action

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Parameter describes a request parameter, for the contract, OpenAPI, documents and completion.
type Parameter struct {
	Name     string
	Type     string // string, int, float, bool, object; [] in front for lists
	Required bool
	Aliases  []string
	Default  string // empty: none
	Enum     []string
	// Min and Max bound a number, the characters of a string, or the elements of a list; empty: unbounded.
	Min, Max string
	Doc      string
	Fields   []Parameter // of an object or a list of objects
}

// Field describes a field of the answer.
type Field struct {
	Name   string
	Type   string // as Parameter.Type
	Doc    string
	Fields []Field
}

// Parameters of the action, in the order in which they are checked.
func (a Action) Parameters() []Parameter { return a.impl.request.describe() }

// Response fields of the action, beside the envelope.
func (a Action) Response() []Field { return a.impl.response.fields }

func (o *object) describe() []Parameter {
	out := make([]Parameter, 0, len(o.fields))
	for _, f := range o.fields {
		p := Parameter{Name: f.name, Type: f.shape.wire, Required: f.required, Aliases: f.aliases,
			Default: f.defText, Enum: f.rules.own.enum, Min: f.rules.own.min, Max: f.rules.own.max, Doc: f.doc}
		if f.shape.list && len(f.rules.each.enum) > 0 {
			p.Enum = f.rules.each.enum
		}
		if f.shape.object != nil {
			p.Fields = f.shape.object.describe()
		}
		out = append(out, p)
	}
	return out
}

// answer is what Define learned about a response type.
type answer struct {
	fields []Field
	fill   func(reflect.Value)
}

func compileResponse(action string, t reflect.Type) *answer {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("action %s: the response type %s is no struct", action, t))
	}
	a := &answer{fields: describeResponse(action, t, 0)}
	if a.fill = filler(t); a.fill == nil {
		a.fill = func(reflect.Value) {}
	}
	return a
}

func describeResponse(where string, t reflect.Type, depth int) []Field {
	if depth > maxDepth {
		panic(fmt.Sprintf("action %s: response type %s nests without end", where, t))
	}
	var out []Field
	for i := range t.NumField() {
		s := t.Field(i)
		name, _, _ := strings.Cut(s.Tag.Get("json"), ",")
		if name == "-" || !s.IsExported() && !s.Anonymous {
			continue
		}
		ft := s.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if s.Anonymous && name == "" && ft.Kind() == reflect.Struct {
			out = append(out, describeResponse(where, ft, depth)...)
			continue
		}
		if name == "" {
			name = s.Name
		}
		f := Field{Name: name, Doc: s.Tag.Get("doc")}
		if ft.Kind() == reflect.Slice {
			f.Type, ft = "[]", ft.Elem()
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
		}
		switch ft.Kind() {
		case reflect.String:
			f.Type += "string"
		case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64:
			f.Type += "int"
		case reflect.Float64:
			f.Type += "float"
		case reflect.Bool:
			f.Type += "bool"
		case reflect.Map:
			f.Type += "object"
		case reflect.Struct:
			if ft.Implements(reflect.TypeFor[json.Marshaler]()) {
				panic(fmt.Sprintf("action %s.%s: %s writes its own JSON: use a plain type", where, name, ft))
			}
			f.Type += "object"
			f.Fields = describeResponse(where+"."+name, ft, depth+1)
		default:
			panic(fmt.Sprintf("action %s.%s: the wire has no type for %s", where, name, s.Type))
		}
		out = append(out, f)
	}
	return out
}

// filler returns a function that makes the nil slices in a value of type t empty, so that lists
// answer [] and never null; nil when t holds no slices.
func filler(t reflect.Type) func(reflect.Value) {
	switch t.Kind() {
	case reflect.Pointer:
		inner := filler(t.Elem())
		if inner == nil {
			return nil
		}
		return func(v reflect.Value) {
			if !v.IsNil() {
				inner(v.Elem())
			}
		}
	case reflect.Slice:
		inner := filler(t.Elem())
		return func(v reflect.Value) {
			if v.IsNil() {
				v.Set(reflect.MakeSlice(t, 0, 0))
			}
			if inner != nil {
				for i := range v.Len() {
					inner(v.Index(i))
				}
			}
		}
	case reflect.Struct:
		type step struct {
			field int
			fill  func(reflect.Value)
		}
		var steps []step
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() || f.Anonymous {
				if fill := filler(f.Type); fill != nil {
					steps = append(steps, step{i, fill})
				}
			}
		}
		if steps == nil {
			return nil
		}
		return func(v reflect.Value) {
			for _, s := range steps {
				s.fill(v.Field(s.field))
			}
		}
	}
	return nil
}
