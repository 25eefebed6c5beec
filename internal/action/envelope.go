package action

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// envelope writes the answer: Action, RetCode and Message, and the fields of body (a JSON object)
// on success.
func envelope(c *Call, body []byte, err error) []byte {
	code, message := retcode.OK, ""
	if err != nil {
		var e *retcode.Error
		if !errors.As(err, &e) {
			e = retcode.ServiceError.Errorf("request %s", c.RequestID)
		}
		code, message, body = e.Code, e.Message(c.Language), nil
	}
	name, _ := json.Marshal(echo(c.Action) + "Response")
	text, _ := json.Marshal(message)
	out := make([]byte, 0, 64+len(name)+len(text)+len(body))
	out = append(out, `{"Action":`...)
	out = append(out, name...)
	out = append(out, `,"RetCode":`...)
	out = strconv.AppendInt(out, int64(code), 10)
	out = append(out, `,"Message":`...)
	out = append(out, text...)
	if len(body) > 2 { // more than {}
		out = append(out, ',')
		return append(out, body[1:]...)
	}
	return append(out, '}')
}

// echo keeps a made-up action name from filling the answer.
func echo(name string) string {
	if len(name) > maxShown {
		return shown(name)
	}
	return name
}

// common reads a common integer parameter; 0 when it is not there.
func common(p params, name string) (int64, error) {
	for i := range p {
		if p[i].name != name || p[i].value.empty() {
			continue
		}
		n := &p[i].value
		if n.scalar() {
			s, ok := n.text, n.kind == text
			if n.kind == number {
				s, ok = decimal(s)
			}
			if v, err := strconv.ParseInt(s, 10, 64); ok && err == nil && integer(s) {
				return v, nil
			}
		}
		return 0, retcode.InvalidParameterFormat.Errorf("%s must be an integer", name)
	}
	return 0, nil
}

// takes tells whether the request type has all these parameters, and so checks them itself.
func (o *object) takes(names ...string) bool {
	for _, n := range names {
		if _, ok := o.slot[n]; !ok {
			return false
		}
	}
	return true
}
