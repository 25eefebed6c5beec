package mail

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// Deps of the service.
type Deps struct {
	DB     *database.DB
	Clock  *clock.Clock
	Secret *secret.Key
	// Settings are asked for before every mail.
	Settings func(ctx context.Context) (Config, error)
	// Roots are who may certify the mail server; nil: the system's.
	Roots *x509.CertPool
}

// Service sends mail.
type Service struct {
	Deps
	loop *clock.Loop
}

// lookEvery is how often the outbox is looked at without a Kick.
const lookEvery = 10 * time.Second

// New prepares the service.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.loop = clock.NewLoop(d.Clock, "mail", lookEvery, s.Flush)
	return s
}

type outgoing struct {
	bun.BaseModel `bun:"table:mail_outbox"`

	ID        int64  `bun:"id,pk"`
	Message   string `bun:"message"`
	Attempts  int    `bun:"attempts"`
	NextAt    int64  `bun:"next_at"`
	UntilAt   int64  `bun:"until_at"`
	CreatedAt int64  `bun:"created_at"`
}

func sealContext(id int64) string { return "mail_outbox/" + strconv.FormatInt(id, 10) }

// Enqueue has a message sent after the caller's transaction commits; it is tried until lasts has passed. A message
// to nobody takes the same way and is dropped at its end, so that nobody learns from the time it takes whether an
// address is known. Call Kick after the commit to have it sent at once.
func (s *Service) Enqueue(ctx context.Context, tx bun.Tx, m Message, lasts time.Duration) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	now := s.Clock.Now()
	row := &outgoing{ID: database.Serial(), NextAt: now.UnixMicro(), UntilAt: now.Add(lasts).UnixMicro(), CreatedAt: now.UnixMicro()}
	row.Message = s.Secret.Seal(text, sealContext(row.ID))
	_, err = tx.NewInsert().Model(row).Exec(ctx)
	return err
}

// Config of the moment.
func (s *Service) Config(ctx context.Context) (Config, error) { return s.Settings(ctx) }

// Kick has the outbox looked at soon.
func (s *Service) Kick() { s.loop.Signal() }

// Run sends what is in the outbox until ctx ends.
func (s *Service) Run(ctx context.Context) { s.loop.Run(ctx) }

// Flush tries every message that is due, oldest first. One that fails is tried again later.
func (s *Service) Flush(ctx context.Context) error {
	now := s.Clock.Micros()
	var rows []outgoing
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("next_at <= ?", now).Order("id").Limit(100).Scan(ctx); err != nil || len(rows) == 0 {
		return err
	}
	c, err := s.Settings(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.deliver(ctx, c, &row, now)
		drop := err == nil || errors.Is(err, ErrRefused)
		if err != nil {
			slog.WarnContext(ctx, "a mail was not sent", "mail", row.ID, "attempt", row.Attempts+1, "again", !drop, "error", err)
		}
		if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			if drop {
				_, err := tx.NewDelete().Model(&row).WherePK().Exec(ctx)
				return err
			}
			_, err := tx.NewUpdate().Model(&row).Set("attempts = attempts + 1, next_at = ?", s.Clock.Now().Add(pause(row.Attempts)).UnixMicro()).WherePK().Exec(ctx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) deliver(ctx context.Context, c Config, row *outgoing, now int64) error {
	text, err := s.Secret.Open(row.Message, sealContext(row.ID))
	if err != nil {
		return err
	}
	var m Message
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	switch {
	case m.To == "" || now >= row.UntilAt:
		return nil
	case !c.Configured():
		return errors.New("no mail server is configured")
	}
	_, err = s.Send(ctx, c, m)
	return err
}

// pause before the next attempt: ten seconds, doubled each time up to half an hour.
func pause(attempts int) time.Duration {
	return min(10*time.Second<<min(attempts, 10), 30*time.Minute)
}
