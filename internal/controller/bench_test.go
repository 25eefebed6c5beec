package controller_test

import (
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// Whole calls in one process, for profiles (-cpuprofile): `make bench` has the figures.

func quiet(b *testing.B) {
	old := slog.SetLogLoggerLevel(slog.LevelError)
	b.Cleanup(func() { slog.SetLogLoggerLevel(old) })
}

func createParameters(b *testing.B, c *controllertest.Cloud) map[string]string {
	for _, f := range []catalog.Factor{catalog.VM, catalog.CPU, catalog.Memory, catalog.DiskSpace} {
		if err := c.Catalog.SetAllowance(b.Context(), c.Demo.Company, "cn", f, 1<<40); err != nil {
			b.Fatal(err)
		}
	}
	vpc := c.Demo.Must(b, "DescribeVPC", nil).Infos()[0].String("VPCID")
	subnet := c.Demo.Must(b, "DescribeSubnet", P{"VPCID": vpc}).Infos()[0].String("SubnetID")
	return P{"Name": "bench", "VMType": fleet.FirstVMType, "ImageID": c.Demo.Must(b, "DescribeImage", nil).Infos()[0].String("ImageID"), "CPU": 1, "Memory": 1024,
		"BootDiskSetType": fleet.FirstStorageType, "VPCID": vpc, "SubnetID": subnet,
		"WANSGID": c.Demo.Must(b, "DescribeSecurityGroup", nil).Infos()[0].String("SGID"), "ChargeType": "Dynamic", "Password": "Testing.1"}.Values("CreateVMInstance")
}

func clone(m map[string]string) map[string]string {
	n := make(map[string]string, len(m)+4)
	for k, v := range m {
		n[k] = v
	}
	return n
}

func BenchmarkCreate(b *testing.B) {
	quiet(b)
	c := controllertest.Start(b, controllertest.Options{Hosts: 50})
	parameters := createParameters(b, c)
	var accepted atomic.Int64
	work := make(chan int)
	var group sync.WaitGroup
	var ids sync.Map
	b.ResetTimer()
	for range 8 {
		group.Go(func() {
			for n := range work {
				if n >= 240 { // the default subnet holds no more: begin again
					return
				}
				p := clone(parameters)
				start := time.Now()
				r, err := c.Demo.Try(p)
				accepted.Add(int64(time.Since(start)))
				if err != nil || r.Code != 0 {
					b.Errorf("%v %v", err, r.Message)
					continue
				}
				ids.Store(r.String("VMID"), true)
			}
		})
	}
	count := min(b.N, 240)
	for n := range count {
		work <- n
	}
	close(work)
	group.Wait()
	for {
		var open int
		if err := c.DB.Reader().NewRaw(`SELECT count(*) FROM operation WHERE ended_at = 0`).Scan(b.Context(), &open); err != nil {
			b.Fatal(err)
		}
		if open == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "creates/s")
	b.ReportMetric(float64(accepted.Load())/float64(count)/1e6, "ms/accept")
}

func BenchmarkDescribe(b *testing.B) {
	quiet(b)
	c := controllertest.Start(b, controllertest.Options{Hosts: 3})
	r, err := c.Demo.Try(createParameters(b, c))
	if err != nil || r.Code != 0 {
		b.Fatal(err, r.Message)
	}
	p := P{"VMIDs": []string{r.String("VMID")}, "Limit": strconv.Itoa(20)}.Values("DescribeVMInstance")
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r, err := c.Demo.Try(clone(p)); err != nil || r.Code != 0 {
				b.Error(err, r.Message)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func BenchmarkPage(b *testing.B) {
	quiet(b)
	c := controllertest.Start(b, controllertest.Options{Hosts: 50})
	p := createParameters(b, c)
	p["Count"] = "10"
	for range 10 {
		if r, err := c.Demo.Try(clone(p)); err != nil || r.Code != 0 {
			b.Fatal(err, r.Message)
		}
	}
	controllertest.Eventually(b, time.Minute, "all run", func() bool {
		return c.Demo.Must(b, "DescribeVMInstance", P{"States": []string{"Running"}, "Limit": 1}).Int("TotalCount") == 100
	})
	p = P{"Limit": "100"}.Values("DescribeVMInstance")
	b.ResetTimer()
	for b.Loop() {
		if r, err := c.Demo.Try(clone(p)); err != nil || r.Code != 0 {
			b.Fatal(err, r.Message)
		}
	}
}
