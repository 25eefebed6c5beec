package action

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/go-playground/validator/v10"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

var validate = validator.New(validator.WithRequiredStructEnabled())

// rules are the tags of one field, without required: presence is the decoder's business.
type rules struct {
	required bool
	tag      string
	own      bounds // of the value
	each     bounds // of a list's elements, behind dive
	counted  bool   // min and max count the elements of a list
	lengths  bool   // min and max count characters
}

// bounds are what people should know of the tags.
type bounds struct {
	min, max string
	enum     []string
}

// between lists tags that look at other fields; rules between fields belong to the handler.
var between = []string{"required_", "excluded_", "excluded", "skip_unless", "eqfield", "nefield", "gtfield",
	"gtefield", "ltfield", "ltefield", "eqcsfield", "necsfield", "fieldcontains", "fieldexcludes"}

func compileRules(where string, t reflect.Type, s shape, tag string) rules {
	var r rules
	r.counted = s.list
	r.lengths = s.wire == "string"
	var keep []string
	at := &r.own
	for _, one := range strings.Split(tag, ",") {
		name, value, _ := strings.Cut(one, "=")
		if name == "" {
			continue
		}
		for _, b := range between {
			if strings.HasPrefix(name, b) {
				panic(fmt.Sprintf("action %s: %s looks at other fields: check it in the handler", where, one))
			}
		}
		switch name {
		case "required":
			if at == &r.own {
				r.required = true
				continue
			}
		case "dive":
			at = &r.each
		case "min", "gte":
			at.min = value
		case "max", "lte":
			at.max = value
		case "len":
			at.min, at.max = value, value
		case "oneof":
			at.enum = strings.Fields(value)
		}
		keep = append(keep, one)
	}
	r.tag = strings.Join(keep, ",")
	if r.tag != "" { // an unknown tag, or one that does not fit the type, panics here
		v := reflect.New(t).Elem()
		if t.Kind() == reflect.Slice {
			v = reflect.MakeSlice(t, 1, 1)
		}
		_ = validate.Var(deref(v).Interface(), r.tag)
	}
	return r
}

// check validates a value that came. Formats answer 4, ranges 113.
func (r *rules) check(v reflect.Value, name string) *retcode.Error {
	if r.tag == "" {
		return nil
	}
	err := validate.Var(deref(v).Interface(), r.tag)
	if err == nil {
		return nil
	}
	var list validator.ValidationErrors
	if !errors.As(err, &list) || len(list) == 0 {
		return retcode.InvalidParameter.Errorf("%s is not allowed", name).Wrap(err)
	}
	e := list[0]
	b, counted, lengths := r.own, r.counted, r.lengths
	if i := strings.Index(e.Field(), "["); i >= 0 { // an element: [3]
		name += "." + strings.Trim(e.Field()[i:], "[]")
		b, counted, lengths = r.each, false, v.Type().Elem().Kind() == reflect.String
	}
	switch e.Tag() {
	case "min", "gte", "max", "lte", "len":
		return outOfRange(name, b, counted, lengths)
	case "gt":
		return retcode.InvalidParameter.Errorf("%s must be greater than %s", name, e.Param())
	case "lt":
		return retcode.InvalidParameter.Errorf("%s must be less than %s", name, e.Param())
	case "oneof":
		return retcode.InvalidParameter.Errorf("%s must be one of %s", name, strings.Join(b.enum, ", "))
	case "unique":
		return retcode.InvalidParameter.Errorf("%s must not repeat a value", name)
	case "ip", "ip_addr":
		return retcode.InvalidParameterFormat.Errorf("%s must be an IP address", name)
	case "ipv4", "ip4_addr":
		return retcode.InvalidParameterFormat.Errorf("%s must be an IPv4 address", name)
	case "ipv6", "ip6_addr":
		return retcode.InvalidParameterFormat.Errorf("%s must be an IPv6 address", name)
	case "cidr", "cidrv4", "cidrv6":
		return retcode.InvalidParameterFormat.Errorf("%s must be a network in CIDR form, such as 10.0.0.0/16", name)
	case "mac":
		return retcode.InvalidParameterFormat.Errorf("%s must be a MAC address", name)
	case "email":
		return retcode.InvalidParameterFormat.Errorf("%s must be an e-mail address", name)
	case "base64", "base64rawurl", "base64url":
		return retcode.InvalidParameterFormat.Errorf("%s must be base64", name)
	case "url", "http_url":
		return retcode.InvalidParameterFormat.Errorf("%s must be a URL", name)
	case "hostname", "hostname_rfc1123", "fqdn":
		return retcode.InvalidParameterFormat.Errorf("%s must be a host name", name)
	case "uuid", "numeric", "number", "alphanum", "alpha", "hexadecimal", "json", "lowercase", "printascii":
		return retcode.InvalidParameterFormat.Errorf("%s must be in the form %s", name, e.Tag())
	}
	return retcode.InvalidParameter.Errorf("%s must satisfy %s", name, strings.TrimSuffix(e.Tag()+"="+e.Param(), "="))
}

// outOfRange names what is allowed.
func outOfRange(name string, b bounds, counted, lengths bool) *retcode.Error {
	c := retcode.InvalidParameter
	switch {
	case counted && b.min != "" && b.max != "":
		return c.Errorf("%s must have %s to %s elements", name, b.min, b.max)
	case counted && b.max != "":
		return c.Errorf("%s must have at most %s elements", name, b.max)
	case counted:
		return c.Errorf("%s must have at least %s elements", name, b.min)
	case lengths && b.min != "" && b.max != "":
		return c.Errorf("%s must have %s to %s characters", name, b.min, b.max)
	case lengths && b.max != "":
		return c.Errorf("%s must have at most %s characters", name, b.max)
	case lengths:
		return c.Errorf("%s must have at least %s characters", name, b.min)
	case b.min != "" && b.max != "":
		return c.Errorf("%s must be between %s and %s", name, b.min, b.max)
	case b.max != "":
		return c.Errorf("%s must be at most %s", name, b.max)
	}
	return c.Errorf("%s must be at least %s", name, b.min)
}
