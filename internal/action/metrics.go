package action

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// metrics of the endpoint. Action names come from the table, so tenants cannot make new series.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lingyun_api_requests_total", Help: "Answered API calls by action and status code.",
		}, []string{"action", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lingyun_api_request_duration_seconds", Help: "Time to answer an API call by action.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"action"}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration)
	}
	return m
}

func (m *metrics) observe(action string, code retcode.Code, d time.Duration) {
	m.requests.WithLabelValues(action, strconv.Itoa(int(code))).Inc()
	m.duration.WithLabelValues(action).Observe(d.Seconds())
}
