package action

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Request is a call's parameters, for who keeps a call to run it later.
type Request struct{ p params }

// Get returns the text of a scalar parameter; empty when there is none.
func (r Request) Get(name string) string { return r.p.get(name) }

// As is the whole request as one of another action, for Execute.
func (r Request) As(name string) []byte {
	p := make(params, 0, len(r.p))
	for _, one := range r.p {
		if one.name == paramAction {
			one.value = node{kind: text, text: name}
		}
		p = append(p, one)
	}
	return Request{p}.Text(false)
}

// hidden are parts of names of parameters that hold secrets.
var hidden = []string{"password", "secret", "userdata", "privatekey", "sharedkey", "psk", "token"}

// Text is the request as JSON, without what proved who sent it. shown: what may be read by people, with secrets
// blotted out; else all of it, for Execute.
func (r Request) Text(shown bool) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, p := range r.p {
		switch p.name {
		case paramPublicKey, paramSignature, paramSSOToken:
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		writeParam(&b, p, shown)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func writeParam(b *bytes.Buffer, p param, shown bool) {
	name, _ := json.Marshal(p.name)
	b.Write(name)
	b.WriteByte(':')
	if shown {
		for _, h := range hidden {
			if strings.Contains(strings.ToLower(p.name), h) {
				b.WriteString(`"***"`)
				return
			}
		}
	}
	writeNode(b, p.value, shown)
}

func writeNode(b *bytes.Buffer, n node, shown bool) {
	switch n.kind {
	case list:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			writeNode(b, item, shown)
		}
		b.WriteByte(']')
	case tree:
		b.WriteByte('{')
		for i, f := range n.fields {
			if i > 0 {
				b.WriteByte(',')
			}
			writeParam(b, f, shown)
		}
		b.WriteByte('}')
	case null:
		b.WriteString("null")
	case number, truth:
		b.WriteString(n.text)
	default:
		text, _ := json.Marshal(n.text)
		b.Write(text)
	}
}

// Approvable tells whether an action takes the title of an approval request: then it may be held back until it is approved.
func (a Action) Approvable() bool { return a.impl.request.takes("ApplicationName") }

// Execute runs a request that Text kept, for c.Caller, who was authenticated when it was sent: everything else is
// checked as it is now. It is recorded as every call is. The error is a *retcode.Error, or one of our own.
func (h *Handler) Execute(ctx context.Context, c *Call, stored []byte) (body []byte, err error) {
	p, fail := parseJSON(stored, h.o.MaxParameters)
	if fail != nil {
		return nil, fail
	}
	c.Action = p.get(paramAction)
	a := h.table[c.Action]
	if a == nil {
		return nil, retcode.ActionNotFound.Errorf("Action %s", shown(c.Action))
	}
	c.Company, c.Member = c.Caller.Company, c.Caller.Account
	if c.Caller.Admin {
		c.Company = 0
	}
	ctx = WithCall(ctx, c)
	defer func() {
		if v := recover(); v != nil {
			body, err = nil, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
		var coded *retcode.Error
		if err == nil && !c.Audited || err != nil && errors.As(err, &coded) {
			if a.Mutates && h.o.Auditor != nil {
				h.record(ctx, c, a.Spec, err)
			}
		}
	}()
	switch {
	case c.Caller.Frozen:
		return nil, retcode.AccountFrozen.Errorf("account %d", c.Caller.Account)
	case c.Caller.TenantFrozen:
		return nil, retcode.TenantFrozen.Errorf("tenant %d", c.Caller.Company)
	}
	in := a.impl.request.collect(p)
	if err := h.admit(ctx, c, a, p); err != nil {
		return nil, err
	}
	return a.impl.call(ctx, c, in)
}
