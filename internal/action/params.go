package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Bounds of one request, against nesting and counting attacks.
const (
	maxDepth    = 16  // nesting of a JSON body
	maxExponent = 400 // of a JSON number; float64 ends at 308
	maxShown    = 64  // bytes of a caller's text that a message repeats
)

// kind of a node.
type kind uint8

const (
	text   kind = iota // a form value or a JSON string
	number             // a JSON number
	truth              // a JSON true or false
	null               // a JSON null
	list
	tree
)

// node is one value as it arrived.
type node struct {
	kind   kind
	text   string  // of a scalar; a number's source text
	items  []node  // of a list
	fields []param // of a tree, sorted by name
}

// scalar tells whether the node is one value.
func (n *node) scalar() bool { return n.kind <= null }

// empty tells whether the value counts as missing.
func (n *node) empty() bool {
	switch n.kind {
	case list:
		return len(n.items) == 0
	case tree:
		return len(n.fields) == 0
	case null:
		return true
	}
	return n.text == ""
}

// param is one parameter of a request under the name it came with.
type param struct {
	name  string
	value node
}

// params are the parameters of a request, sorted by name in byte order, no name twice.
type params []param

// get returns the text of a scalar parameter; empty when there is none.
func (p params) get(name string) string {
	i, ok := slices.BinarySearchFunc(p, name, func(e param, n string) int { return strings.Compare(e.name, n) })
	if !ok || !p[i].value.scalar() {
		return ""
	}
	return p[i].value.text
}

// has tells whether a parameter of this name came, be it empty.
func (p params) has(name string) bool {
	_, ok := slices.BinarySearchFunc(p, name, func(e param, n string) int { return strings.Compare(e.name, n) })
	return ok
}

// sortUnique sorts and refuses a name that came twice: which of the two would have been signed?
func sortUnique(p params) (params, *retcode.Error) {
	slices.SortFunc(p, func(a, b param) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(p); i++ {
		if p[i].name == p[i-1].name {
			return p, retcode.InvalidParameterFormat.Errorf("%s is given more than once", shown(p[i].name))
		}
	}
	return p, nil
}

// merge joins query and body; the body wins on the same name. Both are sorted.
func merge(query, body params) params {
	if len(body) == 0 {
		return query
	}
	if len(query) == 0 {
		return body
	}
	all := make(params, 0, len(query)+len(body))
	for len(query) > 0 && len(body) > 0 {
		switch c := strings.Compare(query[0].name, body[0].name); {
		case c < 0:
			all, query = append(all, query[0]), query[1:]
		case c > 0:
			all, body = append(all, body[0]), body[1:]
		default:
			all, query, body = append(all, body[0]), query[1:], body[1:]
		}
	}
	return append(append(all, query...), body...)
}

// parseForm reads a query string or a form body. limit bounds the number of parameters. On a
// failure it returns what came before.
func parseForm(s string, limit int) (params, *retcode.Error) {
	if s == "" {
		return nil, nil
	}
	out := make(params, 0, min(strings.Count(s, "&")+1, limit))
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		if len(out) == limit {
			return out, tooMany(limit)
		}
		k, v, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(k)
		if err != nil || !utf8.ValidString(name) {
			return out, retcode.InvalidParameterFormat.Errorf("the parameter name %s is not percent-encoded UTF-8", shown(k))
		}
		value, err := url.QueryUnescape(v)
		if err != nil || !utf8.ValidString(value) {
			return out, retcode.InvalidParameterFormat.Errorf("%s is not percent-encoded UTF-8", shown(name))
		}
		out = append(out, param{name: name, value: node{kind: text, text: value}})
	}
	return sortUnique(out)
}

// parseJSON reads a JSON body: one object. limit bounds the number of values.
func parseJSON(body []byte, limit int) (params, *retcode.Error) {
	if !utf8.Valid(body) {
		return nil, retcode.InvalidParameterFormat.Errorf("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	r := reader{decoder: d, left: limit, limit: limit}
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		return nil, retcode.InvalidParameterFormat.Errorf("the body is not one JSON object")
	}
	p, fail := r.object(1)
	if fail != nil {
		return p, fail
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return p, retcode.InvalidParameterFormat.Errorf("the body is not one JSON object")
	}
	return p, nil
}

type reader struct {
	decoder     *json.Decoder
	left, limit int
}

func (r *reader) token() (json.Token, *retcode.Error) {
	t, err := r.decoder.Token()
	if err != nil {
		return nil, retcode.InvalidParameterFormat.Errorf("the body is not one JSON object")
	}
	return t, nil
}

// object reads up to the closing brace.
func (r *reader) object(depth int) (params, *retcode.Error) {
	var out params
	for r.decoder.More() {
		t, fail := r.token()
		if fail != nil {
			return out, fail
		}
		name, ok := t.(string)
		if !ok {
			return out, retcode.InvalidParameterFormat.Errorf("the body is not one JSON object")
		}
		v, fail := r.value(depth)
		if fail != nil {
			return out, fail
		}
		out = append(out, param{name: name, value: v})
	}
	if _, fail := r.token(); fail != nil {
		return out, fail
	}
	return sortUnique(out)
}

func (r *reader) value(depth int) (node, *retcode.Error) {
	if r.left--; r.left < 0 {
		return node{}, tooMany(r.limit)
	}
	t, fail := r.token()
	if fail != nil {
		return node{}, fail
	}
	switch t := t.(type) {
	case string:
		return node{kind: text, text: t}, nil
	case json.Number:
		return node{kind: number, text: t.String()}, nil
	case bool:
		if t {
			return node{kind: truth, text: "true"}, nil
		}
		return node{kind: truth, text: "false"}, nil
	case nil:
		return node{kind: null}, nil
	case json.Delim:
		if depth++; depth > maxDepth {
			return node{}, retcode.InvalidParameterFormat.Errorf("the body is nested deeper than %d", maxDepth)
		}
		if t == '{' {
			p, fail := r.object(depth)
			return node{kind: tree, fields: p}, fail
		}
		n := node{kind: list}
		for r.decoder.More() {
			v, fail := r.value(depth)
			if fail != nil {
				return n, fail
			}
			n.items = append(n.items, v)
		}
		_, fail := r.token()
		return n, fail
	}
	return node{}, retcode.InvalidParameterFormat.Errorf("the body is not one JSON object")
}

func tooMany(limit int) *retcode.Error {
	return retcode.InvalidParameter.Errorf("a request has at most %d parameters", limit)
}

// shown makes a caller's text fit for a message: short, printable, one line.
func shown(s string) string {
	cut := false
	for len(s) > maxShown {
		cut = true
		s = s[:maxShown]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "…"
	}
	return s
}

// decimal writes a JSON number the way signatures do: decimal digits, no exponent, no trailing
// zeros after the point. ok is false when the number is too long for that.
func decimal(s string) (string, bool) {
	if !strings.ContainsAny(s, ".eE") {
		return s, true
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var exponent int
		for j, c := range s[i+1:] {
			if c == '+' || c == '-' {
				if j == 0 {
					continue
				}
				return s, false
			}
			if exponent = exponent*10 + int(c-'0'); exponent > maxExponent {
				return s, false
			}
		}
		if len(s) > 2*maxExponent {
			return s, false
		}
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			return s, false
		}
		s = r.FloatString(2 * maxExponent * 2)
	}
	if strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		return "0", true
	}
	return s, true
}
