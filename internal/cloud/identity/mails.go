package identity

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/mail"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// letter is a mail in both languages. Its texts take the code, the link and what else its sender gives, in this order.
type letter struct{ subjectZH, textZH, subjectEN, textEN string }

// The letters.
var (
	codeLetter = letter{
		"验证码", "您的验证码是 %[1]s，5 分钟内有效。\n\n如果不是您本人操作，请忽略此邮件，并不要把验证码告诉任何人。\n",
		"Verification code", "Your verification code is %[1]s. It is valid for 5 minutes.\n\nIf you did not ask for it, ignore this mail, and tell nobody the code.\n"}
	resetLetter = letter{
		"重置密码", "请在 30 分钟内打开以下链接设置新密码：\n\n%[2]s\n\n或在 5 分钟内输入验证码 %[1]s。\n\n如果不是您本人操作，请忽略此邮件，密码不会改变。\n",
		"Set a new password", "Open this link within 30 minutes to set a new password:\n\n%[2]s\n\nor enter the code %[1]s within 5 minutes.\n\nIf you did not ask for it, ignore this mail: your password stays as it is.\n"}
	activateLetter = letter{
		"激活账号", "请在 3 天内打开以下链接激活您的账号：\n\n%[2]s\n\n如果不是您本人注册，请忽略此邮件。\n",
		"Activate your account", "Open this link within 3 days to activate your account:\n\n%[2]s\n\nIf you did not register, ignore this mail.\n"}
	knownLetter = letter{
		"账号已存在", "有人用此邮箱申请注册，但它已有账号。如果是您本人，请直接登录，或重置密码。\n",
		"You have an account already", "Somebody asked to register with this address, which has an account already. If it was you, log in, or set a new password.\n"}
)

// post has a letter sent to an address, in the caller's transaction. To nobody, "", it takes the same way and is dropped.
func (s *Service) post(ctx context.Context, tx bun.Tx, to, language string, l letter, code, link string, lasts time.Duration) error {
	m := mail.Message{To: to, Subject: l.subjectZH, Text: fmt.Sprintf(l.textZH+"%[3]s", code, link, "")}
	if language == retcode.English {
		m.Subject, m.Text = l.subjectEN, fmt.Sprintf(l.textEN+"%[3]s", code, link, "")
	}
	return s.Mail.Enqueue(ctx, tx, m, lasts)
}

// link to a page of the console with a token behind the fragment, where it reaches no server's log.
func (s *Service) link(page, token string) string {
	return s.Console + "/" + page + "#token=" + url.QueryEscape(token)
}

// mailable refuses what needs a mail when none can be sent (27006).
func (s *Service) mailable(ctx context.Context) error {
	c, err := s.Mail.Config(ctx)
	if err != nil {
		return err
	}
	if !c.Configured() {
		return retcode.InvalidEmail.Errorf("the platform's mail server is not configured")
	}
	return nil
}
