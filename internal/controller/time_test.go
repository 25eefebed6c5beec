package controller_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/ntp"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// timeServer answers NTP on loopback with a clock that is ahead of this machine's.
func timeServer(t *testing.T, ahead *atomic.Int64) int {
	t.Helper()
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			q := make([]byte, 512)
			n, from, err := l.ReadFromUDP(q)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			now := time.Now().Add(time.Duration(ahead.Load()))
			stamp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
			a := make([]byte, 48)
			a[0], a[1], a[2], a[3] = 4<<3|4, 1, 6, 0xec // version 4, server, stratum 1
			copy(a[12:], "LOCL")
			binary.BigEndian.PutUint64(a[16:], stamp) // when it was set
			copy(a[24:32], q[40:48])                  // when the question was sent
			binary.BigEndian.PutUint64(a[32:], stamp) // received
			binary.BigEndian.PutUint64(a[40:], stamp) // answered
			if _, err := l.WriteToUDP(a, from); err != nil {
				return
			}
		}
	}()
	return l.LocalAddr().(*net.UDPAddr).Port
}

func TestTimeServer(t *testing.T) {
	var ahead atomic.Int64
	client := ntp.Client{Port: timeServer(t, &ahead)}
	o := dbtest.SQLiteOptions(t)
	db := dbtest.Open(t, o)
	c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1, Configure: func(cfg *controller.Config) { cfg.NTP = client }})
	measured := func() float64 {
		t.Helper()
		r, err := http.Get(strings.TrimSuffix(c.URL, "/api") + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		m := regexp.MustCompile(`(?m)^lingyun_clock_offset_seconds (\S+)$`).FindSubmatch(text)
		if err != nil || m == nil {
			t.Fatalf("no metric: %v", err)
		}
		f, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	doctor := func() string {
		t.Helper()
		beside, err := database.OpenReadOnly(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer beside.Close()
		return controller.CheckTime(t.Context(), beside, client)
	}
	if said := doctor(); said != "" || measured() != 0 {
		t.Errorf("without a time server: %q %v", said, measured())
	}
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateConfig", P{"ConfigKey": "NTPServer", "ConfigValue": "127.0.0.9"}) // nobody there
	c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "NTPServer", "ConfigValue": "127.0.0.1"})
	if said := doctor(); said != "" {
		t.Errorf("the same clock: %q", said)
	}
	for _, d := range []struct {
		ahead time.Duration
		want  string
	}{{90 * time.Second, "the clock is 1m30s behind time server 127.0.0.1"}, {-20 * time.Second, "the clock is 20s ahead of time server 127.0.0.1"}} {
		ahead.Store(int64(d.ahead))
		if said := doctor(); said != d.want {
			t.Errorf("%v: %q, want %q", d.ahead, said, d.want)
		}
		c.Clock.Advance(5 * time.Minute)
		controllertest.Eventually(t, 30*time.Second, "the controller measures "+d.ahead.String(), func() bool {
			return time.Duration((measured()-d.ahead.Seconds())*1e9).Abs() < time.Second
		})
	}
}
