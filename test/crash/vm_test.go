package crash

import (
	"encoding/base64"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// on and off are the states in which most is possible.
const (
	on  = "Running"
	off = "Stopped"
)

func ofVM(more p, states ...string) func(u *user) p {
	return func(u *user) p { return with(p{"VMID": u.a(vms, states...)}, more) }
}

var vmDeeds = product{
	"CreateVMInstance": {often: 14, ask: func(u *user) p {
		q := with(u.spec, u.maybe(p{"OperatorName": "Bgp", "Bandwidth": 5}), u.maybe(p{"DataDiskSpace": 10}))
		switch u.random.IntN(4) {
		case 0:
			return with(q, u.disksOfVM())
		case 1:
			subnet := u.row(subnets)
			return with(q, p{"NICs.0.VPCID": subnet.String("VPCID"), "NICs.0.SubnetID": subnet.String("SubnetID"), "LANInAverageBandwidth": 10})
		}
		return q
	}},
	"StartVMInstance":         {after: after("StopVMInstance", "CreateVMInstance"), often: 8, ask: ofVM(nil, off)},
	"StopVMInstance":          {after: after("StartVMInstance", "CreateVMInstance"), often: 5, ask: ofVM(nil, on)},
	"RestartVMInstance":       {after: after("StartVMInstance"), often: 3, ask: ofVM(nil, on)},
	"PoweroffVMInstance":      {often: 4, ask: ofVM(nil)},
	"DeleteVMInstance":        {often: 10, ask: func(u *user) p { return with(p{"VMID": u.a(vms)}, u.maybe(p{"DelBindResource": 1})) }},
	"ResizeVMConfig":          {after: after("StopVMInstance"), often: 2, ask: func(u *user) p { return p{"VMID": u.a(vms, off), "CPU": 1, "Memory": one(u, 1024, 2048)} }},
	"ReinstallVMInstance":     {after: after("StopVMInstance"), often: 3, ask: func(u *user) p { return p{"VMID": u.a(vms, off), "ImageID": u.spec["ImageID"]} }},
	"ResetVMInstancePassword": {ask: ofVM(p{"Password": "Crashing.2"}, on)},
	"GetVMVNCInfo":            {ask: ofVM(nil, on)},
	"GetVMSpiceInfo":          {ask: ofVM(nil, on)},
	"AllocateVMVNCSession":    {ask: ofVM(nil, on)},
	"AllocateVMSerialSession": {ask: ofVM(nil, on)},

	"UpdateVMHostname":         {ask: ofVM(p{"Hostname": "another"}, on, off)},
	"UpdateVMDNS":              {ask: ofVM(p{"DNS": "192.0.2.53"}, on, off)},
	"UpdateVMHighAvailability": {ask: ofVM(p{"HighAvailability": "None"}, on, off)},
	"UpdateVMBootDevices":      {ask: ofVM(p{"BootDevices": []string{"hd", "network"}}, on, off)},
	"UpdateVMUserData":         {after: after("StopVMInstance"), ask: ofVM(p{"UserData": base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))}, off)},
	"UpdateVMCPUMode":          {after: after("StopVMInstance"), ask: ofVM(p{"CPUMode": "host-passthrough"}, off)},
	"UpdateVMMAC":              {after: after("StopVMInstance"), ask: func(u *user) p { return p{"VMID": u.a(vms, off), "MAC": u.mac()} }},
	"UpdateVMSupportHotPlug":   {ask: ofVM(p{"SupportHotplug": true}, on, off)},
	"UpdateVMDefaultGW": {after: after("BindEIP"), ask: func(u *user) p {
		e := u.row(eips, "Bound")
		return p{"VMID": e.String("BindResourceID"), "EIPID": e.String("EIPID")}
	}},

	"CreateKeyPair": {ask: func(*user) p { return p{"Name": named} }},
	"DeleteKeyPair": {after: after("CreateKeyPair"), ask: func(u *user) p { return p{"KeyPairID": u.a(keyPairs)} }},
	"BindKeyPair": {after: after("CreateKeyPair", "StartVMInstance"), ask: func(u *user) p {
		return p{"VMID": u.a(vms, on), "KeyPairIDs": []string{u.a(keyPairs)}}
	}, then: func(u *user, sent p, _ controllertest.Response) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.keyed = append(u.keyed, sent)
	}},
	"UnBindKeyPair": {after: after("BindKeyPair"), ask: func(u *user) p { return latest(u, &u.keyed) }},

	"AttachISO": {after: after("CompleteImageMultipartUpload"), often: 3, ask: func(u *user) p { return p{"VMID": u.a(vms, on, off), "ImageID": u.disc()} }},
	"DetachISO": {after: after("AttachISO"), often: 2, ask: func(u *user) p {
		vm := u.discs()
		return p{"VMID": vm.String("VMID"), "ImageID": u.any(vm.List("ISOInfos"), nil).String("ImageID")}
	}},
	"SetBootFromCdrom":   {after: after("AttachISO"), ask: func(u *user) p { return p{"VMID": u.discs().String("VMID")} }},
	"UnSetBootFromCdrom": {after: after("SetBootFromCdrom"), ask: ofVM(nil)},
	"EnterVMRescue":      {after: after("CompleteImageMultipartUpload", "StopVMInstance"), often: 4, ask: func(u *user) p { return p{"VMID": u.a(vms, off), "ImageID": u.disc()} }},
	"ExitVMRescue":       {after: after("EnterVMRescue"), often: 4, ask: ofVM(nil, on)},
}

// discs is a machine with a disc in a drive.
func (u *user) discs() controllertest.Info {
	return u.any(u.list(vms.list, nil), func(i controllertest.Info) bool { return len(i.List("ISOInfos")) > 0 })
}

// disksOfVM are disks that were there before a machine that is made of them.
func (u *user) disksOfVM() p {
	q := p{}
	if d := u.row(disks, "Unbound"); d.String("SrcSnapshotID") != "" { // with a system, when the snapshot is of one
		q = p{"BootSourceType": "Disk", "BootDiskID": d.String("DiskID"), "OSName": "Debian", "OSVersion": "12", "OSType": "Linux"}
	}
	return with(q, u.maybe(p{"DataDiskID": u.a(disks, "Unbound")}))
}
