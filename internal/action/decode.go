package action

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// object is the decoder of a request type, or of an object inside one. Compiled once by Define.
type object struct {
	typ    reflect.Type
	fields []*field
	slot   map[string]int // wire name or alias -> slot
	slots  int
	// ownCompany, ownMember: the type takes CompanyID or MemberID as a parameter of its own.
	ownCompany, ownMember bool
}

// field is the decoder of one parameter.
type field struct {
	name     string
	aliases  []string
	index    []int
	slots    []int // in order of preference
	required bool
	unless   []int         // slots of a parameter with which this one may be left out
	absent   retcode.Code  // of a required parameter that is missing
	preset   reflect.Value // default; invalid without one
	defText  string
	doc      string
	typ      reflect.Type
	shape    shape
	rules    rules
}

// shape says how a value of a field is read.
type shape struct {
	wire   string // string, int, float, bool or object; [] in front of a list's
	scalar func(v reflect.Value, n *node, name string) *retcode.Error
	object *object
	list   bool
}

// slots hold the values that came for the fields of one object.
type slots []slot

// first is the first of some slots for which a value came; nil: none.
func (s slots) first(of []int) *slot {
	for _, i := range of {
		if !s[i].empty() {
			return &s[i]
		}
	}
	return nil
}

// slot holds what came under one name: the value itself and what was spelled Name.rest.
type slot struct {
	bare   *node
	dotted []part
}

type part struct {
	rest  string
	value *node
}

func (s *slot) empty() bool {
	if s.bare != nil && !s.bare.empty() {
		return false
	}
	return !slices.ContainsFunc(s.dotted, func(p part) bool { return !p.value.empty() })
}

// faults keeps the first failure of each rank: missing before format before range.
type faults struct{ missing, format, bounds *retcode.Error }

func (f *faults) add(e *retcode.Error) {
	switch {
	case e == nil:
	case e.Code == retcode.MissingParameter, e.Code == retcode.MissingCompanyID, e.Code == retcode.MissingUserID:
		if f.missing == nil {
			f.missing = e
		}
	case e.Code == retcode.InvalidParameterFormat:
		if f.format == nil {
			f.format = e
		}
	default:
		if f.bounds == nil {
			f.bounds = e
		}
	}
}

func (f *faults) first() error {
	for _, e := range []*retcode.Error{f.missing, f.format, f.bounds} {
		if e != nil {
			return e
		}
	}
	return nil
}

// compileRequest learns a request type. It panics on a shape that the wire cannot carry.
func compileRequest(action string, t reflect.Type) *object {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("action %s: the request type %s is no struct", action, t))
	}
	return compileObject(action, t, 0)
}

func compileObject(where string, t reflect.Type, depth int) *object {
	if depth > maxDepth {
		panic(fmt.Sprintf("action %s: request type %s nests without end", where, t))
	}
	o := &object{typ: t, slot: map[string]int{}}
	o.gather(where, t, nil, depth)
	for _, f := range o.fields {
		for _, n := range append([]string{f.name}, f.aliases...) {
			i, ok := o.slot[n]
			if !ok {
				i = o.slots
				o.slot[n] = i
				o.slots++
			}
			f.slots = append(f.slots, i)
		}
	}
	for i, f := range o.fields {
		name, ok := t.FieldByIndex(f.index).Tag.Lookup("unless")
		if !ok {
			continue
		}
		at := slices.IndexFunc(o.fields, func(g *field) bool { return g.name == name })
		if at < 0 || at == i {
			panic(fmt.Sprintf("action %s.%s: unless names no other parameter: %s", where, f.name, name))
		}
		f.unless = o.fields[at].slots
	}
	return o
}

// names gives a parameter a code of its own for being left out.
func (o *object) names(parameter string, absent retcode.Code) {
	for _, f := range o.fields {
		if f.name == parameter {
			f.absent = absent
		}
	}
}

// gather adds the fields of t, own ones before those of embedded structs, which they hide.
func (o *object) gather(where string, t reflect.Type, index []int, depth int) {
	for i := range t.NumField() {
		s := t.Field(i)
		if s.Anonymous || !s.IsExported() {
			continue
		}
		f := compileField(where+"."+s.Name, s, depth)
		f.index = append(slices.Clone(index), i)
		if slices.ContainsFunc(o.fields, func(g *field) bool { return g.name == f.name }) {
			continue
		}
		o.fields = append(o.fields, f)
		if t != reflect.TypeFor[Tenant]() && depth == 0 {
			o.ownCompany = o.ownCompany || f.name == paramCompany
			o.ownMember = o.ownMember || f.name == paramMember
		}
	}
	for i := range t.NumField() {
		s := t.Field(i)
		if !s.Anonymous {
			continue
		}
		if s.Type.Kind() != reflect.Struct {
			panic(fmt.Sprintf("action %s: only structs are embedded, not %s", where, s.Type))
		}
		o.gather(where, s.Type, append(slices.Clone(index), i), depth)
	}
}

func compileField(where string, s reflect.StructField, depth int) *field {
	f := &field{name: s.Name, typ: s.Type, doc: s.Tag.Get("doc")}
	if n := s.Tag.Get("name"); n != "" {
		f.name = n
	}
	if a := s.Tag.Get("alias"); a != "" {
		f.aliases = strings.Split(a, ",")
	}
	if f.name == "ProjectID" { // the SDKs' configuration spells it so (conventions 2)
		f.aliases = append(f.aliases, "ProjectId")
	}
	t := s.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice {
		f.shape = compileShape(where, t.Elem(), s.Tag.Get("loose") == "true", depth)
		if f.shape.list = true; s.Type.Kind() == reflect.Pointer {
			panic(fmt.Sprintf("action %s: a pointer to a slice", where))
		}
		f.shape.wire = "[]" + f.shape.wire
	} else {
		f.shape = compileShape(where, t, s.Tag.Get("loose") == "true", depth)
	}
	f.rules = compileRules(where, s.Type, f.shape, s.Tag.Get("validate"))
	f.required, f.absent = f.rules.required, retcode.MissingParameter
	if d, ok := s.Tag.Lookup("default"); ok {
		if f.shape.scalar == nil || f.shape.list {
			panic(fmt.Sprintf("action %s: only a scalar has a default", where))
		}
		v := reflect.New(s.Type).Elem()
		if err := f.shape.scalar(deref(v), &node{kind: text, text: d}, f.name); err != nil {
			panic(fmt.Sprintf("action %s: default: %v", where, err))
		}
		f.preset, f.defText = v, d
	}
	return f
}

func compileShape(where string, t reflect.Type, loose bool, depth int) shape {
	switch t.Kind() {
	case reflect.String:
		if loose {
			return shape{wire: "string", scalar: decodeLoose}
		}
		return shape{wire: "string", scalar: decodeString}
	case reflect.Int, reflect.Int64, reflect.Int32:
		return shape{wire: "int", scalar: decodeInt}
	case reflect.Float64:
		return shape{wire: "float", scalar: decodeFloat}
	case reflect.Bool:
		return shape{wire: "bool", scalar: decodeBool}
	case reflect.Struct:
		return shape{wire: "object", object: compileObject(where, t, depth+1)}
	}
	panic(fmt.Sprintf("action %s: the wire has no type for %s", where, t))
}

// deref returns what v points to, made when nil, or v itself.
func deref(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

// collect sorts the parameters of a request into slots.
func (o *object) collect(p params) slots {
	s := make(slots, o.slots)
	for i := range p {
		o.put(s, p[i].name, &p[i].value)
	}
	return s
}

func (o *object) put(s slots, name string, n *node) {
	head, rest, dotted := strings.Cut(name, ".")
	i, ok := o.slot[head]
	if !ok {
		return
	}
	if dotted {
		s[i].dotted = append(s[i].dotted, part{rest, n})
	} else {
		s[i].bare = n
	}
}

// decode fills v from the slots and validates; the error is a *retcode.Error.
func (o *object) decode(v reflect.Value, s slots) error {
	var bad faults
	o.into(v, s, "", &bad)
	return bad.first()
}

func (o *object) into(v reflect.Value, s slots, prefix string, bad *faults) {
	for _, f := range o.fields {
		f.into(v.FieldByIndex(f.index), s, prefix, bad)
	}
}

func (f *field) into(v reflect.Value, s slots, prefix string, bad *faults) {
	in := s.first(f.slots)
	if in == nil {
		switch {
		case f.required && s.first(f.unless) == nil:
			bad.add(f.absent.Errorf("%s is required", prefix+f.name))
		case f.preset.IsValid():
			if f.typ.Kind() == reflect.Pointer {
				deref(v).Set(f.preset.Elem())
			} else {
				v.Set(f.preset)
			}
		}
		return
	}
	name := prefix + f.name
	var err *retcode.Error
	switch {
	case f.shape.list:
		err = f.list(v, in, name, bad)
	case f.shape.object != nil:
		err = f.tree(deref(v), in, name, bad)
	case in.bare == nil || !in.bare.scalar():
		err = retcode.InvalidParameterFormat.Errorf("%s takes one value", name)
	default:
		err = f.shape.scalar(deref(v), in.bare, name)
	}
	if err == nil {
		err = f.rules.check(v, name)
	}
	bad.add(err)
}

// tree reads Name.Field=..., or a nested object.
func (f *field) tree(v reflect.Value, in *slot, name string, bad *faults) *retcode.Error {
	o := f.shape.object
	s := make(slots, o.slots)
	if in.bare != nil && !in.bare.empty() {
		if in.bare.kind != tree {
			return retcode.InvalidParameterFormat.Errorf("%s takes an object: %s.Field=value", name, name)
		}
		for i := range in.bare.fields {
			o.put(s, in.bare.fields[i].name, &in.bare.fields[i].value)
		}
	}
	for _, p := range in.dotted {
		o.put(s, p.rest, p.value)
	}
	o.into(v, s, name+".", bad)
	return nil
}

// list reads Name.0=..., Name.0.Field=..., a nested array, or one bare value.
func (f *field) list(v reflect.Value, in *slot, name string, bad *faults) *retcode.Error {
	var items []slot
	if in.bare != nil && !in.bare.empty() {
		switch in.bare.kind {
		case list:
			items = make([]slot, len(in.bare.items))
			for i := range in.bare.items {
				items[i].bare = &in.bare.items[i]
			}
		default:
			items = []slot{{bare: in.bare}}
		}
		if len(in.dotted) > 0 {
			return retcode.InvalidParameterFormat.Errorf("%s is given in two forms", name)
		}
	}
	if len(in.dotted) > 0 {
		// Every element has at least one part, so there is no index beyond their number.
		items = make([]slot, len(in.dotted))
		last := -1
		for _, p := range in.dotted {
			digits, rest, dotted := strings.Cut(p.rest, ".")
			i, err := strconv.Atoi(digits)
			if err != nil || i < 0 || strconv.Itoa(i) != digits {
				return retcode.InvalidParameterFormat.Errorf("%s is no index: write %s.0, %s.1 and so on", shown(name+"."+digits), name, name)
			}
			if i >= len(items) {
				return retcode.InvalidParameterFormat.Errorf("the indexes of %s must begin at 0 and have no gaps", name)
			}
			if last = max(last, i); dotted {
				items[i].dotted = append(items[i].dotted, part{rest, p.value})
			} else {
				items[i].bare = p.value
			}
		}
		items = items[:last+1]
		for i := range items {
			if items[i].bare == nil && items[i].dotted == nil {
				return retcode.InvalidParameterFormat.Errorf("the indexes of %s must begin at 0 and have no gaps", name)
			}
		}
	}
	out := reflect.MakeSlice(v.Type(), 0, len(items))
	for i := range items {
		if items[i].empty() {
			continue
		}
		item := name + "." + strconv.Itoa(i)
		e := reflect.New(v.Type().Elem()).Elem()
		switch {
		case f.shape.object != nil:
			if err := f.tree(e, &items[i], item, bad); err != nil {
				return err
			}
		case items[i].bare == nil || !items[i].bare.scalar():
			return retcode.InvalidParameterFormat.Errorf("%s takes one value", item)
		default:
			if err := f.shape.scalar(e, items[i].bare, item); err != nil {
				return err
			}
		}
		out = reflect.Append(out, e)
	}
	v.Set(out)
	return nil
}

func decodeString(v reflect.Value, n *node, name string) *retcode.Error {
	if n.kind != text {
		return retcode.InvalidParameterFormat.Errorf("%s must be a string", name)
	}
	return decodeLoose(v, n, name)
}

func decodeLoose(v reflect.Value, n *node, name string) *retcode.Error {
	if !clean(n.text) {
		return retcode.InvalidParameterFormat.Errorf("%s must not contain control characters", name)
	}
	v.SetString(n.text)
	return nil
}

// clean tells whether s holds no control characters but tab and line ends: databases, XML and terminals
// each do something else of their own with those.
func clean(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}

func decodeInt(v reflect.Value, n *node, name string) *retcode.Error {
	s, ok := n.text, n.kind == text
	if n.kind == number {
		s, ok = decimal(s)
	}
	if !ok || !integer(s) {
		return retcode.InvalidParameterFormat.Errorf("%s must be an integer", name)
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v.OverflowInt(i) {
		return retcode.InvalidParameter.Errorf("%s is beyond the range of integers", name)
	}
	v.SetInt(i)
	return nil
}

// integer tells whether s is an optional minus sign and decimal digits.
func integer(s string) bool {
	s = strings.TrimPrefix(s, "-")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func decodeFloat(v reflect.Value, n *node, name string) *retcode.Error {
	whole, fraction, point := strings.Cut(n.text, ".")
	plain := integer(whole) && (!point || integer(fraction) && fraction[0] != '-')
	if n.kind != number && (n.kind != text || !plain) {
		return retcode.InvalidParameterFormat.Errorf("%s must be a decimal number", name)
	}
	x, err := strconv.ParseFloat(n.text, 64)
	if err != nil || math.IsInf(x, 0) {
		return retcode.InvalidParameter.Errorf("%s is beyond the range of numbers", name)
	}
	v.SetFloat(x)
	return nil
}

func decodeBool(v reflect.Value, n *node, name string) *retcode.Error {
	if n.kind > truth || n.text != "true" && n.text != "false" {
		return retcode.InvalidParameterFormat.Errorf("%s must be true or false", name)
	}
	v.SetBool(n.text == "true")
	return nil
}
