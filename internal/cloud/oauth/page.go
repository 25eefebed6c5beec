package oauth

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

//go:embed login.html
var loginHTML string

var loginTemplate = template.Must(template.New("login").Parse(loginHTML))

// loginView is what the page shows.
type loginView struct {
	Chinese        bool
	Client         string // its name
	Request, Stamp string
	Email, Problem string
}

// stampCookie binds a form to the browser that it was given to: another site can neither read nor set it.
const stampCookie = "oauth_stamp"

// loginPage asks who is there, for a request that a client began.
func (s *Service) loginPage(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, r.URL.Query().Get("request"), "", nil, http.StatusOK)
}

// page writes the form; 404 when there is no such request any more.
func (s *Service) page(w http.ResponseWriter, r *http.Request, id, email string, problem error, status int) {
	req, c, err := s.asked(r.Context(), id)
	if err != nil {
		slog.ErrorContext(r.Context(), "login page", "error", err)
		http.Error(w, "try again", http.StatusInternalServerError)
		return
	}
	if req == nil {
		http.Error(w, "this login has ended: go back to the application and begin again", http.StatusNotFound)
		return
	}
	language := s.Call(r).Language
	v := loginView{Chinese: language == "zh", Client: c.Name, Request: id, Email: email, Stamp: newSecret()}
	if problem != nil {
		v.Problem = retcode.Message(problem, language)
	}
	http.SetCookie(w, &http.Cookie{Name: stampCookie, Value: v.Stamp, Path: Path + "/login", HttpOnly: true, Secure: r.TLS != nil,
		SameSite: http.SameSiteStrictMode, MaxAge: int(RequestLife.Seconds())})
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	if err := loginTemplate.Execute(w, v); err != nil {
		slog.DebugContext(r.Context(), "login page", "error", err) // the browser went away
	}
}

// asked finds an open request and its client; nil when there is none.
func (s *Service) asked(ctx context.Context, id string) (*request, *client, error) {
	req, err := s.openRequest(ctx, id)
	if err != nil || req == nil {
		return nil, nil, err
	}
	c, err := s.clientByID(ctx, s.DB.Reader(), req.ClientID)
	if err != nil || c == nil {
		return nil, nil, err
	}
	return req, c, nil
}

// maxForm bounds the form, in bytes.
const maxForm = 16 << 10

// login takes the form. The code goes to the client with this very answer: a request that somebody else began, and
// whose page was slipped to the person here, gives its beginner nothing.
func (s *Service) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "a form is expected", http.StatusBadRequest)
		return
	}
	f := r.PostForm
	stamp, err := r.Cookie(stampCookie)
	if err != nil || f.Get("stamp") == "" || subtle.ConstantTimeCompare([]byte(stamp.Value), []byte(f.Get("stamp"))) != 1 {
		s.page(w, r, f.Get("request"), f.Get("email"), nil, http.StatusForbidden)
		return
	}
	req, _, err := s.asked(r.Context(), f.Get("request"))
	if err != nil || req == nil {
		s.page(w, r, f.Get("request"), "", nil, http.StatusOK) // says so
		return
	}
	if f.Get("cancel") != "" {
		s.back(w, r, req, url.Values{"error": {"access_denied"}})
		return
	}
	c := s.Call(r)
	c.Action = "LoginByPassword"
	ctx := action.WithCall(r.Context(), c)
	c.AddResource(req.ClientID)
	account, err := s.Identity.Prove(ctx, c, f.Get("email"), f.Get("password"), f.Get("totp"))
	s.Record(ctx, c, err)
	if err != nil {
		s.page(w, r, req.ID, f.Get("email"), err, http.StatusForbidden)
		return
	}
	var code string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		code, err = s.newCode(ctx, tx, req, account)
		return err
	})
	if err != nil {
		slog.ErrorContext(ctx, "authorization", "error", err)
		s.back(w, r, req, url.Values{"error": {"server_error"}})
		return
	}
	s.back(w, r, req, url.Values{"code": {code}})
}

// back sends the browser to the client.
func (s *Service) back(w http.ResponseWriter, r *http.Request, req *request, answer url.Values) {
	to, err := req.answer(s.Base+Path, answer)
	if err != nil {
		http.Error(w, "the application's address is malformed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.SetCookie(w, &http.Cookie{Name: stampCookie, Path: Path + "/login", MaxAge: -1})
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// answer is the client's address with an answer in it; it names the issuer (RFC 9207).
func (r *request) answer(issuer string, answer url.Values) (string, error) {
	u, err := url.Parse(r.RedirectURI)
	if err != nil {
		return "", err
	}
	q := u.Query()
	for k, v := range answer {
		q[k] = v
	}
	if r.State != "" {
		q.Set("state", r.State)
	}
	q.Set("iss", issuer)
	u.RawQuery = q.Encode()
	return u.String(), nil
}
