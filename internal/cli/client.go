// Package cli is the client side: a small client of the public API, and the
// commands that people use. It calls nothing but the public API.
package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// Client calls the API with one key pair.
type Client struct {
	Profile
	// Language of messages: "en" or "zh" (the server's default when empty).
	Language string
	// HTTP is http.DefaultClient when nil.
	HTTP *http.Client
}

// Params of a call: strings, integers, booleans, and lists of strings, which are sent as Name.0, Name.1.
// Empty strings and empty lists are left out.
type Params map[string]any

// Error is an answer with a RetCode other than 0.
type Error struct {
	Action    string
	Code      int
	Message   string
	RequestID string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (code %d, request %s)", e.Action, e.Message, e.Code, e.RequestID)
}

// maxAnswer bounds what the client reads, in bytes.
const maxAnswer = 64 << 20

// New makes a client that trusts the certificates of a file besides the system's; caFile may be empty.
func New(p Profile, language, caFile string) (*Client, error) {
	c := &Client{Profile: p, Language: language, HTTP: &http.Client{Timeout: 2 * time.Minute}}
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	c.HTTP.Transport = transport
	return c, nil
}

// flat turns parameters into what goes over the wire.
func (p Params) flat() (map[string]string, error) {
	out := make(map[string]string, len(p))
	for name, v := range p {
		switch v := v.(type) {
		case string:
			if v != "" {
				out[name] = v
			}
		case int:
			out[name] = strconv.Itoa(v)
		case int64:
			out[name] = strconv.FormatInt(v, 10)
		case bool:
			out[name] = strconv.FormatBool(v)
		case []string:
			for i, s := range v {
				out[name+"."+strconv.Itoa(i)] = s
			}
		default:
			return nil, fmt.Errorf("parameter %s: a %T cannot be sent", name, v)
		}
	}
	return out, nil
}

// Call sends one signed call, with the profile's region unless p names one, and decodes the answer
// into out, which may be nil. A refusal is an *Error. raw is the whole answer, also of a refusal.
func (c *Client) Call(ctx context.Context, name string, p Params, out any) (raw json.RawMessage, err error) {
	flat, err := p.flat()
	if err != nil {
		return nil, err
	}
	flat["Action"] = name
	if _, ok := p["Region"]; !ok && c.Region != "" {
		flat["Region"] = c.Region
	}
	switch {
	case c.Token != "":
		flat["ssotoken"] = c.Token
	case c.PublicKey != "":
		flat["PublicKey"] = c.PublicKey
		flat["Signature"] = action.Sign(flat, c.PrivateKey)
	}
	form := make(url.Values, len(flat))
	for k, v := range flat {
		form.Set(k, v)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "lingyun-cli")
	if c.Token != "" {
		r.Header.Set("Referer", c.Endpoint) // a session's calls name where they come from
	}
	if c.PublicKey == "" {
		r.Header.Set("X-Auth-Method", "plain") // how LoginByPassword's password is sent
	}
	if c.Language != "" {
		r.Header.Set("Accept-Language", c.Language)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	w, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer w.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(w.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	var envelope struct {
		Action  *string
		RetCode int
		Message string
	}
	if err := json.Unmarshal(raw, &envelope); err != nil || envelope.Action == nil {
		return nil, fmt.Errorf("%s answers HTTP %s, which is no answer of the API", c.Endpoint, w.Status)
	}
	if envelope.RetCode != 0 {
		return raw, &Error{Action: name, Code: envelope.RetCode, Message: envelope.Message, RequestID: w.Header.Get("X-UCLOUD-REQUEST-UUID")}
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			return raw, fmt.Errorf("%s: %w", name, err)
		}
	}
	return raw, nil
}

// object is one element of Infos, by the field names of the API.
type object map[string]any

// text of a field, for people; empty when it is not there.
func (o object) text(name string) string {
	switch v := o[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	b, _ := json.Marshal(o[name])
	return string(b)
}

// list of objects in a field.
func (o object) list(name string) []object {
	var out []object
	items, _ := o[name].([]any)
	for _, i := range items {
		if m, ok := i.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// texts of a list.
func (o object) texts(name string) []string {
	var out []string
	items, _ := o[name].([]any)
	for _, i := range items {
		out = append(out, object{"": i}.text(""))
	}
	return out
}

// list reads all pages of a Describe action.
func (c *Client) list(ctx context.Context, name string, p Params) ([]object, error) {
	const page = 100
	var all []object
	for {
		q := Params{"Offset": len(all), "Limit": page}
		for k, v := range p {
			q[k] = v
		}
		var a struct {
			Infos      []object
			TotalCount int
		}
		if _, err := c.Call(ctx, name, q, &a); err != nil {
			return nil, err
		}
		all = append(all, a.Infos...)
		if len(a.Infos) < page || len(all) >= a.TotalCount {
			return all, nil
		}
	}
}
