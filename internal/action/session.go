package action

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// secureCookie is the session's cookie over TLS: the prefix keeps other hosts and plain HTTP from setting it.
const secureCookie = "__Host-" + paramSSOToken

// sessionCookie makes the cookie of a session's token, or takes it away (an empty token). Scripts cannot read it, other
// sites cannot make the browser send it, and it ends with the browser; the session's own end is the server's business.
func sessionCookie(token string, tls bool) *http.Cookie {
	cookie := &http.Cookie{Name: paramSSOToken, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if tls {
		cookie.Name, cookie.Secure = secureCookie, true
	}
	if token == "" {
		cookie.MaxAge = -1
	}
	return cookie
}

// sessionToken finds a console's token: a parameter, header or cookie named ssotoken. named tells that one was meant
// to be there; ambient that the browser sent it by itself.
func sessionToken(r *http.Request, p params) (token string, named, ambient bool) {
	if token, named = p.get(paramSSOToken), p.has(paramSSOToken); token != "" {
		return token, true, false
	}
	if token = r.Header.Get(paramSSOToken); token != "" {
		return token, true, false
	}
	named = named || r.Header[http.CanonicalHeaderKey(paramSSOToken)] != nil
	for _, name := range []string{secureCookie, paramSSOToken} {
		if cookie, err := r.Cookie(name); err == nil && cookie.Value != "" {
			return cookie.Value, true, true
		}
	}
	return "", named, false
}

// credential tells whether a request has one of any kind.
func (h *Handler) credential(r *http.Request, p params) bool {
	token, _, _ := sessionToken(r, p)
	return token != "" || p.get(paramPublicKey) != ""
}

// session resolves a console's token.
func (h *Handler) session(ctx context.Context, r *http.Request, c *Call, p params) error {
	token, named, ambient := sessionToken(r, p)
	switch {
	case token == "" && (named || r.Referer() != ""):
		return retcode.MissingSSOToken.Errorf("log in first")
	case token == "":
		return retcode.MissingPublicKey.Errorf("send PublicKey and Signature")
	case r.Referer() == "":
		return retcode.MissingReferer.Errorf("a session is only valid from the console")
	case ambient && !h.own(r):
		return retcode.MissingReferer.Errorf("the Referer is another site")
	}
	if h.o.Session != nil && clean(token) {
		caller, err := h.o.Session(ctx, token)
		if err != nil {
			return err
		}
		if caller != nil {
			c.Caller = *caller
			return nil
		}
	}
	return retcode.SSOTokenInvalid.Errorf("log in again")
}

// own tells whether a page of this very host sent the request.
func (h *Handler) own(r *http.Request) bool {
	u, err := url.Parse(r.Referer())
	if err != nil {
		return false
	}
	host := r.Host
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" && h.proxied(peer(r)) {
		host = forwarded
	}
	return strings.EqualFold(u.Host, host)
}

// origin is where a request comes from.
type origin struct {
	ip     netip.Addr
	tls    bool // to the client's end
	secure bool // tls, or it never left this machine
}

// origin of a request is the other end of the connection, or whom a trusted proxy names: of the addresses in
// X-Forwarded-For the last one that is no trusted proxy, since everything before it is the client's own claim.
func (h *Handler) origin(r *http.Request) origin {
	o := origin{ip: peer(r), tls: r.TLS != nil}
	proxied := h.proxied(o.ip)
	if proxied {
		o.tls = r.Header.Get("X-Forwarded-Proto") == "https"
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for _, hop := range slices.Backward(hops) {
			ip, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil {
				break
			}
			if o.ip = ip.Unmap().WithZone(""); !h.proxied(o.ip) {
				break
			}
		}
	}
	o.secure = o.tls || !proxied && o.ip.IsLoopback()
	return o
}

func (h *Handler) proxied(ip netip.Addr) bool {
	return slices.ContainsFunc(h.o.Proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// peer is the address of the other end of the connection.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap().WithZone("")
}
