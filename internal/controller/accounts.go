package controller

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/backup"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/mail"
)

// policy is what the configuration says of accounts.
func (c *Controller) policy(ctx context.Context) identity.Policy {
	k := c.Catalog.Config
	return identity.Policy{FreezeAfterFailures: k.FreezeAfterFailures(ctx), Lock: k.LoginLock(ctx), PasswordLifetime: k.PasswordLifetime(ctx),
		ForceExpired: k.ForcePasswordChange(ctx), ForceWeak: k.ForceWeakPasswordChange(ctx), Concurrent: k.ConcurrentLogin(ctx),
		IdleTimeout: k.IdleLogout(ctx), MinLength: k.PasswordMinLength(ctx), Classes: k.PasswordClasses(ctx),
		SelfRegistration: k.SelfRegistration(ctx), MailedCodes: k.MailedCodes(ctx), MailFactor: k.MailFactor(ctx), Language: k.Language(ctx)}
}

// backupSettings are what the configuration says of backups.
func (c *Controller) backupSettings(ctx context.Context) backup.Settings {
	k := c.Catalog.Config
	return backup.Settings{Every: k.DatabaseBackup(ctx), Config: k.ConfigBackup(ctx), Keep: k.DatabaseBackupRetention(ctx), Zone: k.TimeZone(ctx, "")}
}

// mailSettings are what the configuration says of the mail server.
func (c *Controller) mailSettings(ctx context.Context) (mail.Config, error) {
	m, err := c.Catalog.Config.Mail(ctx)
	return mail.Config{Host: m.Host, Port: m.Port, SSL: m.SSL, Sender: m.Sender, Password: m.Password, Prefix: m.SubjectPrefix}, err
}
