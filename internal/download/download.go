// Package download serves what does not fit an answer: files, behind links that
// end by themselves. A link is sealed with the cloud's key and carries all that
// its file needs to be made, so nothing is stored for it and any controller
// serves it.
package download

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// Path is where links lead.
const Path = "/download/"

// Make writes a file. args are those of the link; call says whose it is and in which language. What it writes before
// an error is cut short, so that the client sees that the file is not whole.
type Make func(ctx context.Context, w http.ResponseWriter, call *action.Call, args json.RawMessage) error

// Deps of the service.
type Deps struct {
	Clock  *clock.Clock
	Secret *secret.Key
	// Base is the endpoint's URL without a path.
	Base string
}

// Service makes links and serves them.
type Service struct {
	Deps
	kinds map[string]Make
}

// New prepares the service.
func New(d Deps) *Service { return &Service{Deps: d, kinds: map[string]Make{}} }

// Register adds a kind of file. It panics on a name used twice.
func (s *Service) Register(kind string, make Make) {
	if s.kinds[kind] != nil {
		panic("download: " + kind + " is registered twice")
	}
	s.kinds[kind] = make
}

// ticket is what a link carries.
type ticket struct {
	Kind     string
	File     string
	Ends     int64 // unix microseconds
	Company  int64
	Region   string
	Language string
	Args     json.RawMessage
}

const sealed = "download link"

// Link makes a link for the caller of c to a file of a kind, which ends after life. file is the name that clients
// save it by: letters, digits and - _ . only.
func (s *Service) Link(c *action.Call, kind, file string, args any, life time.Duration) (string, error) {
	if s.kinds[kind] == nil {
		return "", errors.New("download: nobody makes " + kind)
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(ticket{Kind: kind, File: file, Ends: s.Clock.Now().Add(life).UnixMicro(), Company: c.Company, Region: c.Region,
		Language: c.Language, Args: raw})
	if err != nil {
		return "", err
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(s.Secret.Seal(text, sealed)))
	return s.Base + Path + token + "/" + url.PathEscape(file), nil
}

// ServeHTTP answers a link: 404 for one that we did not make or whose file is gone, 410 for one that has ended.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	token, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	var t ticket
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		raw, err = s.Secret.Open(string(raw), sealed)
	}
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	make := s.kinds[t.Kind]
	switch {
	case err != nil || make == nil:
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	case s.Clock.Micros() >= t.Ends:
		http.Error(w, "this link has ended: ask for a new one", http.StatusGone)
		return
	}
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": t.File}))
	out := &begun{ResponseWriter: w}
	call := &action.Call{Company: t.Company, Region: t.Region, Language: t.Language, Received: s.Clock.Now()}
	err = make(r.Context(), out, call, t.Args)
	if err == nil {
		return
	}
	if r.Context().Err() == nil {
		slog.Warn("a file could not be made", "kind", t.Kind, "error", err)
	}
	if out.yes {
		panic(http.ErrAbortHandler) // the connection breaks: a file cut short must not look whole
	}
	w.Header().Del("Content-Disposition")
	var coded *retcode.Error
	if errors.As(err, &coded) && coded.Code != retcode.ServiceError {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	http.Error(w, "the file could not be made, try again", http.StatusInternalServerError)
}

// begun knows whether something was sent.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) Write(p []byte) (int, error) { b.yes = true; return b.ResponseWriter.Write(p) }
func (b *begun) WriteHeader(status int)      { b.yes = true; b.ResponseWriter.WriteHeader(status) }
func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }
