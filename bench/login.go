package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// What the guesser does, and for how long calls are measured with and without.
const (
	guessesASecond = 100
	guessedFor     = 10 * time.Second
	rounds         = 3
)

// login measures how much signed calls slow down while one address guesses passwords. Rounds with and without the
// guesser take turns, so that whatever else goes on is in both.
func (b *bench) login() error {
	dir := filepath.Join(b.dir, "login")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := b.start(dir, "", 3)
	if err != nil {
		return err
	}
	defer s.kill()
	var calm, guessed []time.Duration
	refused := 0
	for range rounds {
		d, err := s.signed(guessedFor)
		if err != nil {
			return err
		}
		calm = append(calm, d...)
		ctx, cancel := context.WithCancel(context.Background())
		var guesser sync.WaitGroup
		guesser.Go(func() { refused += s.guess(ctx) })
		d, err = s.signed(guessedFor)
		cancel()
		guesser.Wait()
		if err != nil {
			return err
		}
		guessed = append(guessed, d...)
	}
	rate := func(d []time.Duration) float64 { return float64(len(d)) / (rounds * guessedFor).Seconds() }
	before, after := rate(calm), rate(guessed)
	b.print(figure{Name: "signed calls", Database: "sqlite", Value: before, Unit: "calls/s", Note: fmt.Sprintf("one client; p99 %.3g ms", milliseconds(percentile(sortDurations(calm), 0.99)))})
	b.print(figure{Name: "while passwords are guessed", Database: "sqlite", Value: after, Unit: "calls/s",
		Note: fmt.Sprintf("%d wrong logins/s of one address, %d refused unseen; p99 %.3g ms", guessesASecond, refused, milliseconds(percentile(sortDurations(guessed), 0.99)))})
	b.print(figure{Name: "slowed by", Database: "sqlite", Value: 100 * (1 - after/before), Unit: "%", Target: "<= 10"})
	return s.stop()
}

// signed sends signed calls one after the other and returns what each took.
func (s *server) signed(d time.Duration) (took []time.Duration, err error) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := time.Now()
		if _, err := s.call("DescribeVPC", nil); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// guess sends wrong passwords at its rate until ctx ends, and returns how many were refused with 199.
func (s *server) guess(ctx context.Context) (refused int) {
	tick := time.NewTicker(time.Second / guessesASecond)
	defer tick.Stop()
	var mu sync.Mutex
	var under sync.WaitGroup
	defer under.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			under.Wait()
			return refused
		case <-tick.C:
		}
		under.Go(func() {
			form := url.Values{"Action": {"LoginByPassword"}, "Email": {fmt.Sprintf("user%d@example.com", i%1000)},
				"Password": {base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("Guess-%d", i)))}}
			r, err := http.NewRequest(http.MethodPost, s.key.Endpoint, strings.NewReader(form.Encode()))
			if err != nil {
				return
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("X-Auth-Method", "plain")
			w, err := s.client.Do(r)
			if err != nil {
				return
			}
			defer w.Body.Close()
			var text bytes.Buffer
			_, _ = text.ReadFrom(w.Body)
			if strings.Contains(text.String(), `"RetCode":199`) {
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
}
