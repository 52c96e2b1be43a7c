package telemetry

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type endpointKey struct{}

// A label is an endpoint at a listener, with its histograms by status code, or, without
// codes, one whose histograms are looked up.
type label struct {
	name  string
	codes map[int]prometheus.Observer
}

// codes are the status codes that have a label of their own; others are counted as the
// first of their class.
var codes = []int{200, 201, 302, 303, 304, 400, 401, 403, 404, 405, 413, 415, 421, 429, 431, 500, 503}

// Instrument counts and times the requests of a listener, and notes the endpoint for
// [Metrics.Observer]. listener is a fixed name, such as "mtls".
func (m *Metrics) Instrument(listener string, next http.Handler) http.Handler {
	labels := make(map[string]*label)
	for _, endpoint := range endpoints {
		l := &label{name: endpoint, codes: make(map[int]prometheus.Observer)}
		for _, code := range codes {
			l.codes[code] = m.requests.WithLabelValues(listener, endpoint, strconv.Itoa(code))
		}
		for _, class := range []int{100, 200, 300, 400, 500} {
			if l.codes[class] == nil {
				l.codes[class] = m.requests.WithLabelValues(listener, endpoint, strconv.Itoa(class))
			}
		}
		labels[endpoint] = l
	}
	for _, endpoint := range peopleEndpoints {
		labels[endpoint] = &label{name: endpoint}
	}
	inFlight := m.inFlight.WithLabelValues(listener)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		l := labels[endpointOf(r.URL.Path)]
		inFlight.Inc()
		noted := &response{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			inFlight.Dec()
			fault := recover()
			if fault != nil && !noted.written {
				noted.status = http.StatusInternalServerError
			}
			m.observer(listener, l, noted.status).Observe(time.Since(start).Seconds())
			if fault != nil {
				panic(fault) // net/http ends the connection and logs it
			}
		}()
		next.ServeHTTP(noted, r.WithContext(context.WithValue(r.Context(), endpointKey{}, l)))
	})
}

// observer returns the histogram for an answer.
func (m *Metrics) observer(listener string, l *label, status int) prometheus.Observer {
	if l.codes == nil {
		if !slices.Contains(codes, status) {
			status = min(max(status/100, 1), 5) * 100
		}
		return m.requests.WithLabelValues(listener, l.name, strconv.Itoa(status))
	}
	if o, ok := l.codes[status]; ok {
		return o
	}
	if o, ok := l.codes[status/100*100]; ok {
		return o
	}
	return l.codes[http.StatusInternalServerError]
}

// A response notes the status.
type response struct {
	http.ResponseWriter
	status  int
	written bool
}

func (r *response) WriteHeader(status int) {
	if !r.written && status >= 200 { // 1xx are not the answer yet
		r.status, r.written = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(b []byte) (int, error) {
	r.written = true
	return r.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }
