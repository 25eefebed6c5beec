package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lingyun-cloud/lingyun/internal/pow"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// loginCommand keeps a way into a cloud under a name, after the cloud has accepted it: a key file, or a session.
func loginCommand() *cobra.Command {
	var name, file, ca, endpoint, region string
	cmd := &cobra.Command{
		Use:   "login [EMAIL --endpoint URL]",
		Short: "Keep a session, or a key file, as a profile in ~/.config/lingyun",
		Long: `With an e-mail, asks for the password (and the second factor when one is bound) and keeps a session, which
ends after half an hour without use, after twelve hours, or with lingyun logout. Without one, keeps a key file
such as the controller's demo.json, whose key does not end.`,
		Args:         cobra.MaximumNArgs(1),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.ContainsRune(name, '/') {
				return fmt.Errorf("--profile is a name, not a path")
			}
			if len(args) == 1 {
				p := Profile{Endpoint: endpoint, Region: region, Email: args[0]}
				return logIn(cmd, name, p, ca)
			}
			in := cmd.InOrStdin()
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			raw, err := io.ReadAll(io.LimitReader(in, 1<<20))
			if err != nil {
				return err
			}
			p, err := parseProfile(raw, file)
			if err != nil {
				return err
			}
			c, err := New(p, language(), ca)
			if err != nil {
				return err
			}
			if _, err := c.Call(cmd.Context(), "DescribeRegion", nil, nil); err != nil {
				return fmt.Errorf("the cloud does not accept the key: %w", err)
			}
			return keep(cmd, name, p)
		},
	}
	cmd.Flags().StringVar(&name, "profile", "default", "name of the profile")
	cmd.Flags().StringVar(&file, "file", demoFile, "key file that the controller wrote, - for standard input")
	cmd.Flags().StringVar(&endpoint, "endpoint", "http://127.0.0.1:8080/api", "address of the API, with EMAIL")
	cmd.Flags().StringVar(&region, "region", "cn", "region of the profile, with EMAIL")
	cmd.Flags().StringVar(&ca, "ca", os.Getenv("LINGYUN_CA"), "file with the certificate authority of a self-issued https endpoint ($LINGYUN_CA)")
	return cmd
}

func keep(cmd *cobra.Command, name string, p Profile) error {
	path, err := saveProfile(name, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s at %s is profile %s (%s)\n", p.Email, p.Endpoint, name, path)
	return nil
}

// logIn opens a session and keeps it.
func logIn(cmd *cobra.Command, name string, p Profile, ca string) error {
	ctx := cmd.Context()
	c, err := New(p, language(), ca)
	if err != nil {
		return err
	}
	ask := newPrompt(cmd)
	password, err := ask.secret("Password: ")
	if err != nil {
		return err
	}
	q := Params{"Email": p.Email, "Password": base64.StdEncoding.EncodeToString([]byte(password))}
	var answer struct {
		Email, SSOToken, PendingNonce string
		FactorTypes                   []string
		MustChangePassword            bool
	}
	_, err = c.Call(ctx, "LoginByPassword", q, &answer)
	var refused *Error
	if errors.As(err, &refused) && refused.Code == int(retcode.TooManyRequests) {
		if q["Proof"], err = c.proof(ctx); err != nil {
			return err
		}
		_, err = c.Call(ctx, "LoginByPassword", q, &answer)
	}
	if err != nil {
		return err
	}
	if answer.SSOToken == "" {
		factor := "TOTP"
		if len(answer.FactorTypes) > 0 {
			factor = answer.FactorTypes[0]
		}
		if factor == "Email" {
			if _, err := c.Call(ctx, "SendVerificationCode", Params{"Purpose": "Login", "PendingNonce": answer.PendingNonce}, nil); err != nil {
				return err
			}
		}
		code, err := ask.secret(factor + " code: ")
		if err != nil {
			return err
		}
		if _, err := c.Call(ctx, "VerifyFactor", Params{"PendingNonce": answer.PendingNonce, "FactorType": factor, "FactorCode": code}, &answer); err != nil {
			return err
		}
	}
	if answer.MustChangePassword {
		fmt.Fprintln(cmd.ErrOrStderr(), "The password should be changed: lingyun account password")
	}
	p.Email, p.Token = answer.Email, answer.SSOToken
	return keep(cmd, name, p)
}

// proof solves a challenge, which a login needs after too many wrong ones.
func (c *Client) proof(ctx context.Context) (string, error) {
	var puzzle struct {
		Challenge  string
		Difficulty int
	}
	if _, err := c.Call(ctx, "GetLoginChallenge", nil, &puzzle); err != nil {
		return "", err
	}
	return pow.Solve(ctx, puzzle.Challenge, puzzle.Difficulty)
}

// logoutCommand ends a session and forgets it.
func logoutCommand() *cobra.Command {
	return command("logout", "End the session of a profile and remove the profile", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		if s.Token == "" {
			return fmt.Errorf("the profile has a key, not a session")
		}
		var refused *Error
		if _, err := s.Call(ctx, "LogoutToken", nil, nil); err != nil && !(errors.As(err, &refused) && refused.Code == int(retcode.SSOTokenInvalid)) {
			return err
		}
		name := s.profile
		if name == "" {
			name = os.Getenv(profileEnv)
		}
		if name == "" {
			name = "default"
		}
		path, err := profilePath(name)
		if err != nil {
			return err
		}
		return os.Remove(path)
	})
}

// prompt asks for secrets, on a terminal without showing them, else one a line of standard input.
type prompt struct {
	cmd *cobra.Command
	in  *bufio.Reader
}

func newPrompt(cmd *cobra.Command) *prompt { return &prompt{cmd, bufio.NewReader(cmd.InOrStdin())} }

func (p *prompt) secret(question string) (string, error) {
	fmt.Fprint(p.cmd.ErrOrStderr(), question)
	if f, ok := p.cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		raw, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.cmd.ErrOrStderr())
		return string(raw), err
	}
	line, err := p.in.ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line != "" {
		err = nil
	}
	return line, err
}

// callCommand sends any action and prints the answer as it is.
func callCommand() *cobra.Command {
	cmd := command("call ACTION [NAME=VALUE...]", "Send any action: lingyun call DescribeVMInstance Limit=5 VMIDs.0=vm-...", cobra.MinimumNArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			p := Params{}
			for _, a := range args[1:] {
				name, value, ok := strings.Cut(a, "=")
				if !ok || name == "" {
					return fmt.Errorf("%q is not NAME=VALUE", a)
				}
				p[name] = value
			}
			raw, err := s.Call(ctx, args[0], p, nil)
			var refused *Error
			if err != nil && !errors.As(err, &refused) {
				return err
			}
			var out bytes.Buffer
			if e := json.Indent(&out, raw, "", "  "); e != nil {
				return e
			}
			fmt.Fprintln(s.out, out.String())
			return err
		})
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}
