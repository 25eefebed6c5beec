package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/oauth2"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// foreign is the company's own provider.
type foreign struct {
	Enable                              bool
	Name                                string // on the button
	AuthorizeURL, TokenURL, UserInfoURL string
	ClientID, ClientSecret              string
	ResponseType, Scope                 string
	UniqueIDField                       string // of the user's information: who it is
}

type foreignRow struct {
	bun.BaseModel `bun:"table:oauth_foreign"`

	ID     int64  `bun:"id,pk"`
	Config string `bun:"config"`
}

const foreignContext = "oauth_foreign.config"

// foreign reads the configuration; the zero value when there is none.
func (s *Service) foreign(ctx context.Context) (*foreign, error) {
	f := &foreign{ResponseType: "code", UniqueIDField: "email"}
	row, err := one[foreignRow](ctx, s.DB.Reader(), "id = 1")
	if err != nil || row == nil {
		return f, err
	}
	text, err := s.Secret.Open(row.Config, foreignContext)
	if err != nil {
		return nil, err
	}
	return f, json.Unmarshal(text, f)
}

func (s *Service) setForeign(ctx context.Context, f *foreign) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&foreignRow{ID: 1, Config: s.Secret.Seal(text, foreignContext)}).On("CONFLICT (id) DO UPDATE").Set("config = EXCLUDED.config").Exec(ctx)
		return err
	})
}

// check refuses a configuration that cannot work (3, 113).
func (f *foreign) check() error {
	if f.Enable {
		for name, v := range map[string]string{"AuthorizeURL": f.AuthorizeURL, "TokenURL": f.TokenURL, "UserInfoURL": f.UserInfoURL,
			"ClientID": f.ClientID, "ClientSecret": f.ClientSecret, "UniqueIDField": f.UniqueIDField} {
			if v == "" {
				return retcode.MissingParameter.Errorf("%s is required to enable the login", name)
			}
		}
	}
	for name, text := range map[string]string{"AuthorizeURL": f.AuthorizeURL, "TokenURL": f.TokenURL, "UserInfoURL": f.UserInfoURL} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			return retcode.InvalidParameter.Errorf("%s is no web address", name)
		}
	}
	return nil
}

func (f *foreign) config(redirect string) *oauth2.Config {
	return &oauth2.Config{ClientID: f.ClientID, ClientSecret: f.ClientSecret, RedirectURL: redirect, Scopes: strings.Fields(f.Scope),
		Endpoint: oauth2.Endpoint{AuthURL: f.AuthorizeURL, TokenURL: f.TokenURL}}
}

// loginRow is a login that went to the company's provider.
type loginRow struct {
	bun.BaseModel `bun:"table:oauth_login"`

	StateHash   string `bun:"state_hash,pk"`
	Verifier    string `bun:"verifier"`
	RedirectURI string `bun:"redirect_uri"`
	ExpiresAt   int64  `bun:"expires_at"`
}

// loginLife is how long a login may take there.
const loginLife = 10 * time.Minute

// begin sends somebody to the company's provider: 20008 when there is none, or the way back is not to us.
func (s *Service) begin(ctx context.Context, redirect string) (address, state string, err error) {
	f, err := s.foreign(ctx)
	if err != nil {
		return "", "", err
	}
	if !f.Enable {
		return "", "", retcode.OAuthLoginFailed.Errorf("no provider is configured")
	}
	if redirect == "" {
		redirect = s.Base + "/login/oauth"
	}
	// The code must come back to us and to nobody else.
	if u, err := url.Parse(redirect); err != nil || u.Scheme+"://"+u.Host != s.Base || u.Fragment != "" {
		return "", "", retcode.OAuthLoginFailed.Errorf("RedirectURI must be below %s", s.Base)
	}
	state, verifier := newSecret(), oauth2.GenerateVerifier()
	row := &loginRow{StateHash: digest(state), Verifier: s.Secret.Seal([]byte(verifier), digest(state)), RedirectURI: redirect,
		ExpiresAt: s.Clock.Now().Add(loginLife).UnixMicro()}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(row).Exec(ctx)
		return err
	})
	return f.config(redirect).AuthCodeURL(state, oauth2.S256ChallengeOption(verifier)), state, err
}

// finish logs in whoever the company's provider vouches for. 20008 for all that is wrong with that.
func (s *Service) finish(ctx context.Context, c *action.Call, code, state string) (*identity.Login, error) {
	f, err := s.foreign(ctx)
	if err != nil {
		return nil, err
	}
	if !f.Enable {
		return nil, retcode.OAuthLoginFailed.Errorf("no provider is configured")
	}
	// A state serves once, also when the rest fails.
	var row loginRow
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row = loginRow{}
		_, err := tx.NewDelete().Model(&row).Where("state_hash = ?", digest(state)).Returning("*").Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if row.StateHash == "" || row.ExpiresAt <= s.Clock.Micros() {
		return nil, retcode.OAuthLoginFailed.Errorf("State is unknown, used or too old: begin again")
	}
	verifier, err := s.Secret.Open(row.Verifier, row.StateHash)
	if err != nil {
		return nil, err
	}
	ctx2 := context.WithValue(ctx, oauth2.HTTPClient, s.HTTP)
	t, err := f.config(row.RedirectURI).Exchange(ctx2, code, oauth2.VerifierOption(string(verifier)))
	if err != nil {
		return nil, retcode.OAuthLoginFailed.Errorf("the provider did not take the code").Wrap(err)
	}
	id, verified, err := s.who(ctx2, f, t)
	if err != nil {
		return nil, retcode.OAuthLoginFailed.Errorf("the provider did not say who it is").Wrap(err)
	}
	account, err := s.matched(ctx, f, id, verified)
	if err != nil {
		return nil, err
	}
	return s.Identity.Enter(ctx, c, account, "")
}

// maxUserInfo bounds what a provider may tell, in bytes.
const maxUserInfo = 1 << 20

// who asks the provider. verified is false when it says that the address is not.
func (s *Service) who(ctx context.Context, f *foreign, t *oauth2.Token) (id string, verified bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.UserInfoURL, nil)
	if err != nil {
		return "", false, err
	}
	t.SetAuthHeader(r)
	r.Header.Set("Accept", "application/json")
	w, err := s.HTTP.Do(r)
	if err != nil {
		return "", false, err
	}
	defer w.Body.Close()
	if w.StatusCode != http.StatusOK {
		return "", false, fmt.Errorf("oauth: the provider answers %s", w.Status)
	}
	var info map[string]any
	d := json.NewDecoder(io.LimitReader(w.Body, maxUserInfo))
	d.UseNumber()
	if err := d.Decode(&info); err != nil {
		return "", false, err
	}
	switch v := info[f.UniqueIDField].(type) {
	case string:
		id = strings.TrimSpace(v)
	case json.Number:
		id = v.String()
	}
	if id == "" {
		return "", false, errors.New("oauth: the user's information lacks " + f.UniqueIDField)
	}
	verified = true
	if v, ok := info["email_verified"]; ok && v != true && v != "true" {
		verified = false
	}
	return id, verified, nil
}

// matched finds the account of a foreign identity: the one tied to it, else the one of the same e-mail address, when
// the provider vouches for that.
func (s *Service) matched(ctx context.Context, f *foreign, id string, verified bool) (int64, error) {
	p, err := s.Identity.PersonByOAuthID(ctx, id)
	if retcode.Of(err) == retcode.AccountNotFound && f.UniqueIDField == "email" && verified {
		p, err = s.Identity.PersonByEmail(ctx, id)
	}
	if err == nil {
		return p.Account, nil
	}
	if retcode.Of(err) != retcode.AccountNotFound {
		return 0, err
	}
	return 0, retcode.OAuthLoginFailed.Errorf("no account belongs to that identity")
}
