// Code generated from retcodes.yaml by go generate; DO NOT EDIT.

package retcode

// The codes, by the names that errors are made with.
const (
	OK                            Code = 0     // Operation succeeded
	ServiceError                  Code = 2     // Service error, contact the platform administrators
	MissingParameter              Code = 3     // A required parameter is empty
	InvalidParameterFormat        Code = 4     // Malformed parameter
	MissingReferer                Code = 100   // Bad request: the Referer header is missing
	MissingAction                 Code = 101   // Bad request: Action is missing
	MissingRegion                 Code = 102   // Bad request: the region is missing
	MissingPublicKey              Code = 103   // Bad request: the authentication parameter is missing
	MissingSignature              Code = 104   // Bad request: the signature is missing, check which private key is used
	MissingSSOToken               Code = 105   // Authentication failed: ssotoken is missing
	MissingUserID                 Code = 106   // Bad request: the user id is missing
	MissingCompanyID              Code = 107   // Bad request: the tenant id is missing
	MissingApplicationName        Code = 108   // Bad request: the application name is missing
	InvalidSignature              Code = 109   // The signature is wrong, check it
	ActionNotFound                Code = 110   // The API does not exist
	AdminOnly                     Code = 111   // No permission: only an administrator may send this request
	IPNotInWhitelist              Code = 112   // Your address is not in the IP allow-list of the tenant
	InvalidParameter              Code = 113   // Bad request: parameter check failed, make sure the values are allowed
	ActionForbidden               Code = 114   // The account has no permission for this API
	TooManyRequests               Code = 199   // Too many requests, try again later
	ResourceNotFound              Code = 200   // The resource does not exist
	InvalidResourceBizState       Code = 201   // The business state of the resource is wrong
	InvalidResourceState          Code = 202   // The state of the resource is wrong
	ResourceAlreadyEnabled        Code = 203   // The resource is already enabled
	ResourceDeleted               Code = 204   // The resource is deleted
	ResourceTerminated            Code = 205   // The resource is destroyed
	ResourceExpired               Code = 206   // The resource has expired
	InvalidResourceType           Code = 207   // Bad request: check the resource type
	BindLimitReached              Code = 208   // Bind failed: the resource has reached its limit
	DeletionProtected             Code = 209   // An administrator forbids deleting this resource
	RegionNotActivated            Code = 400   // The region is not activated
	ActivationCodeExpired         Code = 401   // The activation code has expired
	RegionActivationFailed        Code = 402   // Activating the region failed
	SystemNotFound                Code = 403   // The system does not exist
	RegionActivationExpired       Code = 404   // The activation of the region has expired
	AuthCodeVerifyFailed          Code = 549   // The authorization code is wrong
	SystemError                   Code = 550   // System error
	TOTPAlreadyBound              Code = 551   // TOTP login is already bound
	TOTPNotBound                  Code = 552   // TOTP login is not bound
	InvalidTOTPState              Code = 553   // The TOTP state is invalid
	TOTPCodeUsed                  Code = 554   // This TOTP code was used already
	VerifyCodeTooFrequent         Code = 555   // Verification codes requested too often, please wait
	VerifyCodeStillValid          Code = 556   // The verification code is still valid
	VerifyCodeExpired             Code = 557   // The verification code has expired
	InternalError                 Code = 559   // System error
	SystemBusy                    Code = 560   // The system is busy
	OAuthClientNotFound           Code = 600   // The OAuth client does not exist
	InvalidAuthorizationCode      Code = 601   // The authorization code is invalid
	AccessTokenNotFound           Code = 602   // The access token does not exist
	OAuthTokenNotFound            Code = 603   // The OAuth token does not exist
	OAuthTokenExpired             Code = 604   // The OAuth token has expired
	OAuthCodeNotFound             Code = 605   // The OAuth code does not exist
	RoleNotFound                  Code = 650   // The platform has no such role
	ProjectNotFound               Code = 651   // The platform has no such project group
	RoleGrantNotFound             Code = 652   // Cannot remove: the role grant does not exist
	RoleInUse                     Code = 653   // Cannot delete the role: accounts hold it
	ProjectNotEmpty               Code = 654   // Cannot delete the project group: move its resources elsewhere first
	ProductTypeNotFound           Code = 655   // This product service type does not exist
	ProductTypeInUse              Code = 656   // Cannot close the service: remove all tenants using it first
	ConfigNotFound                Code = 17000 // The configuration item does not exist
	ConfigNotEditable             Code = 17001 // The configuration item cannot be edited
	SpecificationNotFound         Code = 17002 // The specification does not exist
	PriceNotFound                 Code = 17003 // The price does not exist
	SpecificationTemplateNotFound Code = 17004 // The specification template does not exist
	QuotaExceeded                 Code = 17005 // The quota of the tenant is not enough
	QuotaNotFound                 Code = 17006 // This quota does not exist
	SpecificationDuplicated       Code = 17007 // The specification exists, duplicates are not allowed
	QuotaBelowUsage               Code = 17008 // The quota cannot go below the number of existing resources
	AccountAlreadyEnabled         Code = 20000 // The account is already enabled
	AccountFrozen                 Code = 20001 // The account is frozen
	AccountNotActivated           Code = 20002 // The account is not activated
	InvalidAccountState           Code = 20003 // Bad request: the account state is abnormal
	AccountNotFound               Code = 20004 // The account does not exist
	AccountEmailExists            Code = 20005 // The e-mail of the account is registered already
	WrongPassword                 Code = 20006 // The login password is wrong
	PasswordExpired               Code = 20007 // The login password has expired, set a new one
	OAuthLoginFailed              Code = 20008 // OAuth login is wrong, check it
	WrongOldPassword              Code = 20009 // The old password is wrong
	PasswordInitRequired          Code = 20010 // For safety, set your login password first
	SSOTokenInvalid               Code = 20011 // The SSO token does not exist or has expired
	CannotDeleteSelf              Code = 20012 // You cannot delete your own account
	PasswordLengthInvalid         Code = 20013 // The password length does not meet the rule
	PasswordComplexityInvalid     Code = 20014 // The password complexity does not meet the rule
	TenantEmailExists             Code = 27000 // The main account e-mail of the tenant is registered already
	TenantNotFound                Code = 27001 // The tenant does not exist
	InvalidTenantState            Code = 27002 // Bad request: the tenant state is abnormal
	TenantAlreadyEnabled          Code = 27003 // The tenant is already enabled
	TenantFrozen                  Code = 27004 // The tenant is frozen
	TenantNotEmpty                Code = 27005 // Cannot delete the tenant: remove all its resources first
	InvalidEmail                  Code = 27006 // The e-mail is invalid or cannot be reached
	PayAccountNotFound            Code = 23000 // The payment account of the tenant does not exist, payment and top-up are impossible, contact operations
	InsufficientBalance           Code = 23001 // The balance of the tenant is not enough
	DuplicateSerialNo             Code = 23002 // Check the order number, duplicates are not allowed
	ImageNotFound                 Code = 1000  // The image does not exist
	InvalidImageBizState          Code = 1001  // The image state is wrong
	InvalidImageState             Code = 1002  // The image state is wrong
	InvalidImageFormat            Code = 1003  // The image format is wrong
	VMNotFound                    Code = 1004  // The virtual machine does not exist
	InvalidVMBizState             Code = 1005  // The virtual machine state is wrong
	InvalidVMState                Code = 1006  // The virtual machine state is wrong
	ImageNoHotplug                Code = 1007  // The image does not support a hot upgrade, check the image
	ImageInUse                    Code = 1008  // A resource uses this image
	VNCSessionNotFound            Code = 1009  // The VNC session does not exist
	VNCSessionExpired             Code = 1010  // The VNC session has expired, get a new one
	VMNotStopped                  Code = 1014  // The virtual machine is not shut down, do so and retry
	VMSpecUnavailable             Code = 1015  // The specification of the virtual machine is not available
	VMMakingImage                 Code = 1016  // The virtual machine is making an image, retry later
	ImageTooLarge                 Code = 1017  // The uploaded image exceeds the size limit
	ImageArchMismatch             Code = 1018  // The image does not match the compute architecture, check and retry
	HostResourceInsufficient      Code = 1019  // Physical resources are short, retry later
	BootDiskTooSmall              Code = 1020  // The system disk is smaller than the image, check its size
	SameExternalDisk              Code = 1021  // The external system and data disk cannot be the same disk
	VGPURestoring                 Code = 1022  // The chosen vGPU profile is being restored, pick another one
	ImageNoVGPU                   Code = 1023  // The image does not support vGPU
	GPUVMNotMigratable            Code = 1024  // A GPU virtual machine cannot be migrated
	VMCreateDiskFailed            Code = 1025  // Creating the virtual machine failed on a disk, retry; contact an administrator if it repeats
	VMCreateNICFailed             Code = 1026  // Creating the virtual machine failed on NIC or IP, retry; contact an administrator if it repeats
	VMCleanDiskFailed             Code = 1027  // Cleaning up disks failed, retry; contact an administrator if it repeats
	VMCleanNICFailed              Code = 1028  // Cleaning up NIC or IP failed, retry; contact an administrator if it repeats
	VMPasswordLengthInvalid       Code = 1029  // The password length of the virtual machine does not meet the rule
	VMPasswordComplexityInvalid   Code = 1030  // The password complexity of the virtual machine does not meet the rule
	DiskStateUnstable             Code = 5000  // The disk is in a transient state
	DiskShrinkNotSupported        Code = 5001  // A disk cannot shrink
	DiskInRecycleBin              Code = 5002  // The disk is deleted and in the recycle bin, restore it first
	DiskSpecOutOfRange            Code = 5003  // The disk size is outside the allowed range
	SnapshotLimitReached          Code = 7000  // The disk has reached its number of snapshots
	SnapshotStateUnstable         Code = 7001  // The snapshot is in a transient state
	SnapshotCreatingDisk          Code = 7002  // A disk is being created from the snapshot
	VPCNotFound                   Code = 3000  // The VPC does not exist
	SubnetExists                  Code = 3001  // The VPC has this subnet already
	VPCInUse                      Code = 3002  // Resources use this VPC
	SubnetNotFound                Code = 3003  // The subnet does not exist
	SubnetInUse                   Code = 3004  // Resources use this subnet
	SubnetConflict                Code = 3005  // The subnet conflicts with another one of the VPC
	SubnetOutOfVPC                Code = 3006  // The subnet is outside the VPC network
	InvalidVPCBizState            Code = 3007  // The business state of the VPC is wrong
	InvalidVPCState               Code = 3008  // The state of the VPC is wrong
	InvalidSubnetBizState         Code = 3009  // The business state of the subnet is wrong
	InvalidSubnetState            Code = 3010  // The state of the subnet is wrong
	SubnetIPInsufficient          Code = 3011  // The subnet has too few free addresses
	InvalidCIDR                   Code = 3012  // The network is not in CIDR form
	NotPrivateNetwork             Code = 3013  // The network is not a private IPv4 range
	ReservedNetworkOverlap        Code = 3014  // The network overlaps a special range
	SGRuleDuplicated              Code = 16000 // Duplicate security group rule
	SGInUse                       Code = 16001 // Resources use this security group
	SGNotFound                    Code = 16002 // The security group does not exist
	InvalidSGBizState             Code = 16003 // The business state of the security group is wrong
	InvalidSGState                Code = 16004 // The state of the security group is wrong
	SGRuleNotFound                Code = 16005 // The security group rule does not exist
	SGRulePartiallyNotFound       Code = 16006 // Some security group rules do not exist
	BandwidthOutOfRange           Code = 8000  // The bandwidth is outside the allowed range
	IPAlreadyAllocated            Code = 8001  // The given address is allocated already
	DuplicateIPBinding            Code = 8002  // Two IPs or NICs with the same address cannot be bound
	NotIPv4                       Code = 8003  // The IP version is not IPv4
	IPInsufficient                Code = 8004  // No free address left
	IPReserved                    Code = 8005  // The given address is used by a management service
	IPOutOfSegment                Code = 8006  // The given address is outside the network
	BandwidthLimitReached         Code = 8007  // The bandwidth has reached its limit
	InvalidNetworkType            Code = 8008  // The network type is invalid
	EIPStillBound                 Code = 8009  // The public IP is still bound
	VSHasRS                       Code = 9000  // The VServer has real servers, it cannot be deleted
	LBHasVS                       Code = 9001  // The load balancer has VServers, it cannot be deleted
	VSLimitReached                Code = 9002  // Too many VServers, raise the limit and retry
	VSPortExists                  Code = 9003  // A VServer with this port exists
	InvalidVSPort                 Code = 9004  // Invalid port, allowed are 1~65535
	InvalidVSProtocol             Code = 9005  // Invalid protocol, allowed are TCP, UDP, HTTP, HTTPS
	InvalidPersistenceType        Code = 9006  // Invalid session persistence type
	InvalidHealthcheckType        Code = 9007  // Invalid health check type
	InvalidKeepaliveTimeout       Code = 9008  // Invalid idle timeout, allowed are 1~86400
	InvalidWeight                 Code = 9009  // Invalid weight, allowed are 1~100
	VSPolicyExists                Code = 9010  // The content rule exists, change it
	InvalidRSPort                 Code = 9011  // Illegal port, must be 1~65535
	VSPortReserved                Code = 9012  // Ports 323, 9102, 9103, 9104, 9105, 9106, 60909, 60910 belong to management services
	SNATRuleDuplicated            Code = 28001 // The resource has the same SNAT rule already
	VMHasDefaultEIP               Code = 28002 // The virtual machine has an outbound public IP, it cannot join the allow-list
	DNATRuleDuplicated            Code = 28003 // The DNAT rule equals an existing one
	InvalidDNATPort               Code = 28004 // The ports of the DNAT rule are wrong
	NATGWSGAlreadyBound           Code = 28005 // The NAT gateway has this security group already
	NATGWResourceInsufficient     Code = 28006 // Platform resources are short, ask the administrators to extend the cluster
	SNATSourceExists              Code = 28007 // This source address has an SNAT rule already
	NATRuleExists                 Code = 28008 // The same NAT rule exists
	RemoteVPNGWExists             Code = 40001 // The remote gateway exists
	VPNTunnelQuotaExceeded        Code = 40002 // Too many tunnels
	InvalidVPNGWState             Code = 40003 // The gateway state forbids this
	InvalidTunnelSubnet           Code = 40004 // The subnets of the tunnel are wrong
	VPNGWIPInsufficient           Code = 40005 // Too few internal addresses for a VPN gateway (it takes 3)
	InvalidVPNTunnelState         Code = 40006 // The tunnel does not allow this
	AlarmTemplateInUse            Code = 4000  // The alarm template is bound to resources
	NotifyGroupInUse              Code = 4001  // The notification group is used by an alarm template
	NotifyGroupNotFound           Code = 4002  // The notification group does not exist
	InspectionRunning             Code = 4020  // An inspection is running already
	InspectionNotFound            Code = 4021  // The inspection does not exist
	SetTypeNotFound               Code = 14000 // The set type does not exist, ask the administrators to check the sets
	NoComputeSetPermission        Code = 14001 // No permission for the compute set, ask the administrators
	NoStorageSetPermission        Code = 14002 // No permission for the storage set, ask the administrators
	NoIdleComputeSet              Code = 14003 // No idle compute set, ask the administrators
	NoIdleStorageSet              Code = 14004 // No idle storage set, ask the administrators
	ComputeSetInsufficient        Code = 14005 // The compute set is short of resources, ask the administrators
	StorageSetInsufficient        Code = 14006 // The storage set is short of resources, ask the administrators
	NoSetPermission               Code = 14007 // The user has no permission for the set, ask the administrators
	SetShrinkBelowAllocated       Code = 14008 // Shrinking is not allowed while the wanted capacity is below the allocated one
	SetNotFound                   Code = 14009 // The set id does not exist, ask the administrators to check the sets
	SetArchMismatch               Code = 14010 // The sets have different architectures
	SetDiskNotSupported           Code = 14011 // The set does not support some disks of the virtual machine
	ComputeInstanceNotFound       Code = 15000 // The compute instance does not exist
	InvalidComputeInstanceState   Code = 15001 // The state of the compute instance is wrong
	HostLocked                    Code = 15002 // The host is locked, retry later
	HostCPUInsufficient           Code = 15003 // CPU is short, retry later
	HostMemoryInsufficient        Code = 15004 // Memory is short, retry later
	HostGPUInsufficient           Code = 15005 // GPUs are short, retry later
	VGPUProfileInUse              Code = 15006 // A virtual machine uses this vGPU profile, the GPU cannot be restored now
	NICStillBound                 Code = 6000  // The network interface is still bound
	NICBoundElsewhere             Code = 6001  // The network interface is bound to another resource
)

// All lists the catalogue in its own order.
var All = []Entry{
	{Code: OK, Module: "common", Symbol: "OK", ZH: "操作成功", EN: "Operation succeeded", When: "success"},
	{Code: ServiceError, Module: "common", Symbol: "ServiceError", ZH: "服务出现异常，请联系平台管理人员处理", EN: "Service error, contact the platform administrators", When: "panic, backend or database failure"},
	{Code: MissingParameter, Module: "common", Symbol: "MissingParameter", ZH: "必填参数为空", EN: "A required parameter is empty", When: "a parameter the action requires is missing or empty"},
	{Code: InvalidParameterFormat, Module: "common", Symbol: "InvalidParameterFormat", ZH: "参数格式不正确", EN: "Malformed parameter", When: "a value cannot be parsed as its type or fails its format (int, CIDR, IP, JSON body)"},
	{Code: MissingReferer, Module: "common", Symbol: "MissingReferer", ZH: "请求出现错误，缺少referer header", EN: "Bad request: the Referer header is missing", When: "console (session) call without a Referer header"},
	{Code: MissingAction, Module: "common", Symbol: "MissingAction", ZH: "请求出现错误，缺少Action", EN: "Bad request: Action is missing", When: "no Action in query, form or JSON body"},
	{Code: MissingRegion, Module: "common", Symbol: "MissingRegion", ZH: "请求出现错误，缺少地域参数", EN: "Bad request: the region is missing", When: "the action requires Region and it is missing"},
	{Code: MissingPublicKey, Module: "common", Symbol: "MissingPublicKey", ZH: "请求出现错误，缺少用户认证参数", EN: "Bad request: the authentication parameter is missing", When: "no PublicKey and no session"},
	{Code: MissingSignature, Module: "common", Symbol: "MissingSignature", ZH: "请求出现错误，缺少签名，请确认是否已使用正确私钥", EN: "Bad request: the signature is missing, check which private key is used", When: "PublicKey present, Signature missing"},
	{Code: MissingSSOToken, Module: "common", Symbol: "MissingSSOToken", ZH: "认证失败，缺少ssotoken", EN: "Authentication failed: ssotoken is missing", When: "console call without the SSO token"},
	{Code: MissingUserID, Module: "common", Symbol: "MissingUserID", ZH: "请求出现错误，缺少用户ID", EN: "Bad request: the user id is missing", When: "the caller could not be resolved to an account id"},
	{Code: MissingCompanyID, Module: "common", Symbol: "MissingCompanyID", ZH: "请求出现错误，缺少租户ID", EN: "Bad request: the tenant id is missing", When: "an admin action on a tenant came without CompanyID"},
	{Code: MissingApplicationName, Module: "common", Symbol: "MissingApplicationName", ZH: "请求出现错误，缺少申请名称", EN: "Bad request: the application name is missing", When: "the tenant has approval on, AutoAudit off, and ApplicationName is empty"},
	{Code: InvalidSignature, Module: "common", Symbol: "InvalidSignature", ZH: "请求所带签名不合法，请检查签名", EN: "The signature is wrong, check it", When: "the computed signature differs, or PublicKey is unknown"},
	{Code: ActionNotFound, Module: "common", Symbol: "ActionNotFound", ZH: "请求的API不存在", EN: "The API does not exist", When: "Action is not registered"},
	{Code: AdminOnly, Module: "common", Symbol: "AdminOnly", ZH: "没有权限，此请求必须为管理员用户调用", EN: "No permission: only an administrator may send this request", When: "a tenant account calls an admin action"},
	{Code: IPNotInWhitelist, Module: "common", Symbol: "IPNotInWhitelist", ZH: "当前访问平台的IP地址不在租户设置的IP白名单地址内", EN: "Your address is not in the IP allow-list of the tenant", When: "the source address is outside the login allow-list of the tenant"},
	{Code: InvalidParameter, Module: "common", Symbol: "InvalidParameter", ZH: "请求出现错误，参数检查发现有异常，请确认调用请求的参数是否合法", EN: "Bad request: parameter check failed, make sure the values are allowed", When: "a value is outside its enumeration or range, or the combination is not allowed, and no specific code fits"},
	{Code: ActionForbidden, Module: "common", Symbol: "ActionForbidden", ZH: "用户无此接口权限", EN: "The account has no permission for this API", When: "the roles of the account do not grant the action"},
	{Code: TooManyRequests, Module: "common", Symbol: "TooManyRequests", ZH: "请求频繁，请稍后重试", EN: "Too many requests, try again later", When: "rate limit of the account or address exceeded"},
	{Code: ResourceNotFound, Module: "common", Symbol: "ResourceNotFound", ZH: "资源不存在", EN: "The resource does not exist", When: "unknown id, or owned by another tenant; unknown id where no module code exists"},
	{Code: InvalidResourceBizState, Module: "common", Symbol: "InvalidResourceBizState", ZH: "资源业务状态不正确", EN: "The business state of the resource is wrong", When: "the billing or recycle state forbids the operation"},
	{Code: InvalidResourceState, Module: "common", Symbol: "InvalidResourceState", ZH: "资源状态不正确", EN: "The state of the resource is wrong", When: "the run state forbids the operation and no module code fits"},
	{Code: ResourceAlreadyEnabled, Module: "common", Symbol: "ResourceAlreadyEnabled", ZH: "资源已启用", EN: "The resource is already enabled", When: "RSMode is already Enable; the resource is not in the recycle bin"},
	{Code: ResourceDeleted, Module: "common", Symbol: "ResourceDeleted", ZH: "资源已删除", EN: "The resource is deleted", When: "the id points to a resource in the recycle bin"},
	{Code: ResourceTerminated, Module: "common", Symbol: "ResourceTerminated", ZH: "资源已销毁", EN: "The resource is destroyed", When: "the id points to a destroyed resource"},
	{Code: ResourceExpired, Module: "common", Symbol: "ResourceExpired", ZH: "资源已过期", EN: "The resource has expired", When: "ExpireTime has passed; renew first"},
	{Code: InvalidResourceType, Module: "common", Symbol: "InvalidResourceType", ZH: "请求出现错误，请检查资源类型是否正确", EN: "Bad request: check the resource type", When: "ResourceType is unknown or does not match ResourceID"},
	{Code: BindLimitReached, Module: "common", Symbol: "BindLimitReached", ZH: "绑定失败，已达到资源绑定上限", EN: "Bind failed: the resource has reached its limit", When: "VM already has 25 disks (x86) or 3 (ARM); VM already has 6 NICs (x86) or 3 (ARM); VM already has 50 IPv4 or 10 IPv6 addresses"},
	{Code: DeletionProtected, Module: "common", Symbol: "DeletionProtected", ZH: "管理员已限制资源不可被删除", EN: "An administrator forbids deleting this resource", When: "deletion is locked by the platform configuration"},
	{Code: RegionNotActivated, Module: "common", Symbol: "RegionNotActivated", ZH: "地域未激活", EN: "The region is not activated", When: "Region has no licence"},
	{Code: ActivationCodeExpired, Module: "common", Symbol: "ActivationCodeExpired", ZH: "激活码已过期", EN: "The activation code has expired", When: "the licence or token used for activation is past its end"},
	{Code: RegionActivationFailed, Module: "common", Symbol: "RegionActivationFailed", ZH: "地域激活失败", EN: "Activating the region failed", When: "the licence does not match, or the region does not answer"},
	{Code: SystemNotFound, Module: "common", Symbol: "SystemNotFound", ZH: "系统不存在", EN: "The system does not exist", When: "no platform record for the given region or system"},
	{Code: RegionActivationExpired, Module: "common", Symbol: "RegionActivationExpired", ZH: "地域激活已过期", EN: "The activation of the region has expired", When: "the licence of Region has ended"},
	{Code: AuthCodeVerifyFailed, Module: "common", Symbol: "AuthCodeVerifyFailed", ZH: "授权码验证错误", EN: "The authorization code is wrong", When: "wrong second factor or e-mail code; verify step of a code"},
	{Code: SystemError, Module: "common", Symbol: "SystemError", ZH: "系统错误", EN: "System error", When: "failure inside the login service"},
	{Code: TOTPAlreadyBound, Module: "common", Symbol: "TOTPAlreadyBound", ZH: "TOTP登录认证已绑定", EN: "TOTP login is already bound", When: "binding TOTP while it is bound"},
	{Code: TOTPNotBound, Module: "common", Symbol: "TOTPNotBound", ZH: "TOTP登录认证未绑定", EN: "TOTP login is not bound", When: "verifying or unbinding TOTP without a binding; a TOTP code is given and none is bound"},
	{Code: InvalidTOTPState, Module: "common", Symbol: "InvalidTOTPState", ZH: "TOTP状态无效", EN: "The TOTP state is invalid", When: "the TOTP binding is in a state that forbids the step"},
	{Code: TOTPCodeUsed, Module: "common", Symbol: "TOTPCodeUsed", ZH: "TOTP登录认证绑定的认证码已被使用", EN: "This TOTP code was used already", When: "a TOTP code of a window already accepted"},
	{Code: VerifyCodeTooFrequent, Module: "common", Symbol: "VerifyCodeTooFrequent", ZH: "验证码请求过于频繁，请稍等", EN: "Verification codes requested too often, please wait", When: "next code requested before the minimum interval"},
	{Code: VerifyCodeStillValid, Module: "common", Symbol: "VerifyCodeStillValid", ZH: "验证码仍在有效期内", EN: "The verification code is still valid", When: "a new code is asked for while the last one is valid"},
	{Code: VerifyCodeExpired, Module: "common", Symbol: "VerifyCodeExpired", ZH: "验证码已失效", EN: "The verification code has expired", When: "code older than its lifetime"},
	{Code: InternalError, Module: "common", Symbol: "InternalError", ZH: "系统错误", EN: "System error", When: "internal failure of the account service"},
	{Code: SystemBusy, Module: "common", Symbol: "SystemBusy", ZH: "系统繁忙", EN: "The system is busy", When: "overload or a lock that was not obtained in time"},
	{Code: OAuthClientNotFound, Module: "common", Symbol: "OAuthClientNotFound", ZH: "OAuth客户端不存在", EN: "The OAuth client does not exist", When: "unknown ClientID; OAuth token endpoint with an unknown client"},
	{Code: InvalidAuthorizationCode, Module: "common", Symbol: "InvalidAuthorizationCode", ZH: "Authorization码无效", EN: "The authorization code is invalid", When: "exchanging a code that is wrong or bound to another client"},
	{Code: AccessTokenNotFound, Module: "common", Symbol: "AccessTokenNotFound", ZH: "Access Token不存在", EN: "The access token does not exist", When: "request with an unknown access token"},
	{Code: OAuthTokenNotFound, Module: "common", Symbol: "OAuthTokenNotFound", ZH: "OAuth Token不存在", EN: "The OAuth token does not exist", When: "refresh or revoke of an unknown token"},
	{Code: OAuthTokenExpired, Module: "common", Symbol: "OAuthTokenExpired", ZH: "OAuth Token已过期", EN: "The OAuth token has expired", When: "token past its lifetime"},
	{Code: OAuthCodeNotFound, Module: "common", Symbol: "OAuthCodeNotFound", ZH: "OAuth Code不存在", EN: "The OAuth code does not exist", When: "code never issued or already used"},
	{Code: RoleNotFound, Module: "common", Symbol: "RoleNotFound", ZH: "平台无此用户角色", EN: "The platform has no such role", When: "unknown RoleID"},
	{Code: ProjectNotFound, Module: "common", Symbol: "ProjectNotFound", ZH: "平台无此项目组", EN: "The platform has no such project group", When: "unknown ProjectID, or of another tenant"},
	{Code: RoleGrantNotFound, Module: "common", Symbol: "RoleGrantNotFound", ZH: "无法移除，角色授权不存在", EN: "Cannot remove: the role grant does not exist", When: "removing a role an account does not hold"},
	{Code: RoleInUse, Module: "common", Symbol: "RoleInUse", ZH: "无法删除角色，有账号绑定了此角色", EN: "Cannot delete the role: accounts hold it", When: "at least one account holds the role"},
	{Code: ProjectNotEmpty, Module: "common", Symbol: "ProjectNotEmpty", ZH: "无法删除项目组，项目组中存在资源，请先将资源移出到其他项目组", EN: "Cannot delete the project group: move its resources elsewhere first", When: "the project group still holds resources"},
	{Code: ProductTypeNotFound, Module: "common", Symbol: "ProductTypeNotFound", ZH: "此产品服务类型不存在", EN: "This product service type does not exist", When: "unknown ProductType"},
	{Code: ProductTypeInUse, Module: "common", Symbol: "ProductTypeInUse", ZH: "无法关闭服务，有租户正在使用此产品服务，请先移除所有租户再关闭服务", EN: "Cannot close the service: remove all tenants using it first", When: "tenants still use the product"},
	{Code: ConfigNotFound, Module: "config", Symbol: "ConfigNotFound", ZH: "配置项不存在", EN: "The configuration item does not exist", When: "unknown ConfigKey"},
	{Code: ConfigNotEditable, Module: "config", Symbol: "ConfigNotEditable", ZH: "配置项不可编辑", EN: "The configuration item cannot be edited", When: "the item is read-only"},
	{Code: SpecificationNotFound, Module: "config", Symbol: "SpecificationNotFound", ZH: "规格不存在", EN: "The specification does not exist", When: "unknown SpecificationID; no specification of the set type matches"},
	{Code: PriceNotFound, Module: "config", Symbol: "PriceNotFound", ZH: "价格不存在", EN: "The price does not exist", When: "no price for product, set type and charge type; same, at purchase"},
	{Code: SpecificationTemplateNotFound, Module: "config", Symbol: "SpecificationTemplateNotFound", ZH: "规格模版不存在", EN: "The specification template does not exist", When: "no template with that name for the resource type"},
	{Code: QuotaExceeded, Module: "config", Symbol: "QuotaExceeded", ZH: "租户配额不足", EN: "The quota of the tenant is not enough", When: "used plus wanted exceeds the quota"},
	{Code: QuotaNotFound, Module: "config", Symbol: "QuotaNotFound", ZH: "该配额不存在", EN: "This quota does not exist", When: "unknown ResourceType and FactorType pair"},
	{Code: SpecificationDuplicated, Module: "config", Symbol: "SpecificationDuplicated", ZH: "规格已存在，不能够创建重复的规格", EN: "The specification exists, duplicates are not allowed", When: "the same value exists for the set type"},
	{Code: QuotaBelowUsage, Module: "config", Symbol: "QuotaBelowUsage", ZH: "不允许将租户配额修改当前已有资源数量之下", EN: "The quota cannot go below the number of existing resources", When: "Quota is below what the tenant uses"},
	{Code: AccountAlreadyEnabled, Module: "account", Symbol: "AccountAlreadyEnabled", ZH: "账号已启用", EN: "The account is already enabled", When: "the account is not frozen"},
	{Code: AccountFrozen, Module: "account", Symbol: "AccountFrozen", ZH: "账号已冻结", EN: "The account is frozen", When: "the account is frozen; the account is frozen already"},
	{Code: AccountNotActivated, Module: "account", Symbol: "AccountNotActivated", ZH: "账号未激活", EN: "The account is not activated", When: "the account is still LOCKED"},
	{Code: InvalidAccountState, Module: "account", Symbol: "InvalidAccountState", ZH: "请求出现错误，账号状态不正常", EN: "Bad request: the account state is abnormal", When: "the account state forbids the change"},
	{Code: AccountNotFound, Module: "account", Symbol: "AccountNotFound", ZH: "账号不存在", EN: "The account does not exist", When: "unknown e-mail (answer like 20006 where enumeration matters); unknown MemberID"},
	{Code: AccountEmailExists, Module: "account", Symbol: "AccountEmailExists", ZH: "账号所用注册邮箱已在平台注册", EN: "The e-mail of the account is registered already", When: "e-mail in use by an account"},
	{Code: WrongPassword, Module: "account", Symbol: "WrongPassword", ZH: "输入的账号登录密码不正确", EN: "The login password is wrong", When: "wrong password"},
	{Code: PasswordExpired, Module: "account", Symbol: "PasswordExpired", ZH: "登录密码已超过有效期，请重新设置密码", EN: "The login password has expired, set a new one", When: "password older than the configured lifetime"},
	{Code: OAuthLoginFailed, Module: "account", Symbol: "OAuthLoginFailed", ZH: "所填OAuth登录认证有误，请确认是否正确", EN: "OAuth login is wrong, check it", When: "ClientID, RedirectURI, ResponseType or State is missing or does not match the client"},
	{Code: WrongOldPassword, Module: "account", Symbol: "WrongOldPassword", ZH: "旧密码不正确", EN: "The old password is wrong", When: "changing the own password with a wrong old one"},
	{Code: PasswordInitRequired, Module: "account", Symbol: "PasswordInitRequired", ZH: "为了安全起见，请初始化登录密码", EN: "For safety, set your login password first", When: "first login of an account created with ResetPassword"},
	{Code: SSOTokenInvalid, Module: "account", Symbol: "SSOTokenInvalid", ZH: "SSOToken不存在或者已过期", EN: "The SSO token does not exist or has expired", When: "session unknown or over"},
	{Code: CannotDeleteSelf, Module: "account", Symbol: "CannotDeleteSelf", ZH: "不能删除自己的账号", EN: "You cannot delete your own account", When: "MemberID is the caller"},
	{Code: PasswordLengthInvalid, Module: "account", Symbol: "PasswordLengthInvalid", ZH: "密码长度不符合要求", EN: "The password length does not meet the rule", When: "length below the configured rule"},
	{Code: PasswordComplexityInvalid, Module: "account", Symbol: "PasswordComplexityInvalid", ZH: "密码复杂度不符合要求", EN: "The password complexity does not meet the rule", When: "character classes below the configured rule"},
	{Code: TenantEmailExists, Module: "tenant", Symbol: "TenantEmailExists", ZH: "租户注册所用的主账号邮箱已在平台注册", EN: "The main account e-mail of the tenant is registered already", When: "e-mail in use"},
	{Code: TenantNotFound, Module: "tenant", Symbol: "TenantNotFound", ZH: "租户不存在", EN: "The tenant does not exist", When: "unknown CompanyID"},
	{Code: InvalidTenantState, Module: "tenant", Symbol: "InvalidTenantState", ZH: "请求出现错误，租户状态不正常", EN: "Bad request: the tenant state is abnormal", When: "the tenant state forbids the operation"},
	{Code: TenantAlreadyEnabled, Module: "tenant", Symbol: "TenantAlreadyEnabled", ZH: "租户已被启用", EN: "The tenant is already enabled", When: "the tenant is not frozen"},
	{Code: TenantFrozen, Module: "tenant", Symbol: "TenantFrozen", ZH: "租户已被冻结", EN: "The tenant is frozen", When: "the tenant of the account is frozen; frozen already"},
	{Code: TenantNotEmpty, Module: "tenant", Symbol: "TenantNotEmpty", ZH: "无法删除租户，租户下存在资源，请先清除租户下所有资源，再进行租户删除操作。", EN: "Cannot delete the tenant: remove all its resources first", When: "resources left, the recycle bin included"},
	{Code: InvalidEmail, Module: "tenant", Symbol: "InvalidEmail", ZH: "邮箱无效或者邮箱地址无法正常通信", EN: "The e-mail is invalid or cannot be reached", When: "malformed address or the mail check fails"},
	{Code: PayAccountNotFound, Module: "billing", Symbol: "PayAccountNotFound", ZH: "租户的付款账号不存在，将会导致租户无法进行付款和充值，请联系相关运维人员处理。", EN: "The payment account of the tenant does not exist, payment and top-up are impossible, contact operations", When: "the tenant has no balance record"},
	{Code: InsufficientBalance, Module: "billing", Symbol: "InsufficientBalance", ZH: "租户的账户余额不足", EN: "The balance of the tenant is not enough", When: "cash plus free plus credit is below the price"},
	{Code: DuplicateSerialNo, Module: "billing", Symbol: "DuplicateSerialNo", ZH: "请检查订单号是否输入正确，不允许输入重复的订单号", EN: "Check the order number, duplicates are not allowed", When: "SerialNo was used before"},
	{Code: ImageNotFound, Module: "image", Symbol: "ImageNotFound", ZH: "镜像不存在", EN: "The image does not exist", When: "unknown ImageID or not visible to the tenant"},
	{Code: InvalidImageBizState, Module: "image", Symbol: "InvalidImageBizState", ZH: "镜像状态不正确", EN: "The image state is wrong", When: "business state of the image (deleted, being deleted)"},
	{Code: InvalidImageState, Module: "image", Symbol: "InvalidImageState", ZH: "镜像状态不正确", EN: "The image state is wrong", When: "resource state of the image (Making, Uploading, Failed)"},
	{Code: InvalidImageFormat, Module: "image", Symbol: "InvalidImageFormat", ZH: "镜像格式不正确", EN: "The image format is wrong", When: "the file is not of ImageFormat, or the format is not supported"},
	{Code: VMNotFound, Module: "vm", Symbol: "VMNotFound", ZH: "虚拟机不存在", EN: "The virtual machine does not exist", When: "unknown VMID"},
	{Code: InvalidVMBizState, Module: "vm", Symbol: "InvalidVMBizState", ZH: "虚拟机状态不正确", EN: "The virtual machine state is wrong", When: "business state: Deleted, Terminating, Terminated or expired"},
	{Code: InvalidVMState, Module: "vm", Symbol: "InvalidVMState", ZH: "虚拟机状态不正确", EN: "The virtual machine state is wrong", When: "not Stopped; not Running; in a transient state"},
	{Code: ImageNoHotplug, Module: "vm", Symbol: "ImageNoHotplug", ZH: "当前镜像不支持热升级操作，请检查镜像", EN: "The image does not support a hot upgrade, check the image", When: "the VM is running and its image lacks hotplug"},
	{Code: ImageInUse, Module: "image", Symbol: "ImageInUse", ZH: "有资源正在使用此镜像", EN: "A resource uses this image", When: "a VM was created from it or is being created"},
	{Code: VNCSessionNotFound, Module: "vm", Symbol: "VNCSessionNotFound", ZH: "VNC session 不存在", EN: "The VNC session does not exist", When: "unknown session when the console connects"},
	{Code: VNCSessionExpired, Module: "vm", Symbol: "VNCSessionExpired", ZH: "VNC session失效，请重新获取", EN: "The VNC session has expired, get a new one", When: "session older than its lifetime"},
	{Code: VMNotStopped, Module: "vm", Symbol: "VMNotStopped", ZH: "虚拟机未关机，请关机后再重试", EN: "The virtual machine is not shut down, do so and retry", When: "the VM runs and the operation needs it stopped"},
	{Code: VMSpecUnavailable, Module: "vm", Symbol: "VMSpecUnavailable", ZH: "虚拟机的规格不可用", EN: "The specification of the virtual machine is not available", When: "the CPU and memory pair is not offered by the set type"},
	{Code: VMMakingImage, Module: "vm", Symbol: "VMMakingImage", ZH: "虚拟机在制作镜像中，请稍后重试", EN: "The virtual machine is making an image, retry later", When: "an image is being made from it"},
	{Code: ImageTooLarge, Module: "image", Symbol: "ImageTooLarge", ZH: "上传镜像超出容量大小上限", EN: "The uploaded image exceeds the size limit", When: "larger than the configured maximum"},
	{Code: ImageArchMismatch, Module: "vm", Symbol: "ImageArchMismatch", ZH: "创建虚拟机的镜像与计算架构不匹配，请检查重试", EN: "The image does not match the compute architecture, check and retry", When: "SetArch of the image differs from the one of the set"},
	{Code: HostResourceInsufficient, Module: "vm", Symbol: "HostResourceInsufficient", ZH: "当前物理资源不足，请稍后重试", EN: "Physical resources are short, retry later", When: "no host can take the VM"},
	{Code: BootDiskTooSmall, Module: "vm", Symbol: "BootDiskTooSmall", ZH: "系统盘容量小于镜像大小，请检查系统盘的容量", EN: "The system disk is smaller than the image, check its size", When: "BootDiskSpace below ImageSize"},
	{Code: SameExternalDisk, Module: "vm", Symbol: "SameExternalDisk", ZH: "虚拟机使用的外置存储系统盘、数据盘不能是同一块盘", EN: "The external system and data disk cannot be the same disk", When: "BootDiskID equals DataDiskID"},
	{Code: VGPURestoring, Module: "vm", Symbol: "VGPURestoring", ZH: "当前所选的vGPU规格正在还原中，暂时无法创建虚拟机，请更换规格重试", EN: "The chosen vGPU profile is being restored, pick another one", When: "the vGPU profile is being reset"},
	{Code: ImageNoVGPU, Module: "vm", Symbol: "ImageNoVGPU", ZH: "虚拟机使用的镜像不支持vGPU设备", EN: "The image does not support vGPU", When: "GPUType=VGPU and CanVGPU is false"},
	{Code: GPUVMNotMigratable, Module: "vm", Symbol: "GPUVMNotMigratable", ZH: "GPU虚拟机不支持迁移", EN: "A GPU virtual machine cannot be migrated", When: "the VM has a GPU"},
	{Code: VMCreateDiskFailed, Module: "vm", Symbol: "VMCreateDiskFailed", ZH: "硬盘错误导致创建虚拟机失败，请重试，多次连续出现请联系管理员", EN: "Creating the virtual machine failed on a disk, retry; contact an administrator if it repeats", When: "disk creation failed"},
	{Code: VMCreateNICFailed, Module: "vm", Symbol: "VMCreateNICFailed", ZH: "网卡/IP 错误导致创建虚拟机失败，请重试，多次连续出现请联系管理员", EN: "Creating the virtual machine failed on NIC or IP, retry; contact an administrator if it repeats", When: "NIC or address allocation failed"},
	{Code: VMCleanDiskFailed, Module: "vm", Symbol: "VMCleanDiskFailed", ZH: "清理硬盘失败，请重试，多次连续出现请联系管理员", EN: "Cleaning up disks failed, retry; contact an administrator if it repeats", When: "disk removal failed (also while rolling back a create)"},
	{Code: VMCleanNICFailed, Module: "vm", Symbol: "VMCleanNICFailed", ZH: "清理网卡/IP 失败，请重试，多次连续出现请联系管理员", EN: "Cleaning up NIC or IP failed, retry; contact an administrator if it repeats", When: "NIC or address release failed (also while rolling back a create)"},
	{Code: VMPasswordLengthInvalid, Module: "vm", Symbol: "VMPasswordLengthInvalid", ZH: "虚拟机密码长度不符合要求", EN: "The password length of the virtual machine does not meet the rule", When: "not 6..30 characters"},
	{Code: VMPasswordComplexityInvalid, Module: "vm", Symbol: "VMPasswordComplexityInvalid", ZH: "虚拟机密码复杂度不符合要求", EN: "The password complexity of the virtual machine does not meet the rule", When: "fewer than two character classes, or part of the Windows user name"},
	{Code: DiskStateUnstable, Module: "disk", Symbol: "DiskStateUnstable", ZH: "云硬盘状态不稳定", EN: "The disk is in a transient state", When: "state is not Bound or Unbound"},
	{Code: DiskShrinkNotSupported, Module: "disk", Symbol: "DiskShrinkNotSupported", ZH: "云硬盘不支持减少容量", EN: "A disk cannot shrink", When: "DiskSpace at or below the current size (clone: below the source)"},
	{Code: DiskInRecycleBin, Module: "disk", Symbol: "DiskInRecycleBin", ZH: "云硬盘已被删除，存放在回收站，无法操作；请先恢复云硬盘后再进行操作", EN: "The disk is deleted and in the recycle bin, restore it first", When: "the disk is in the recycle bin"},
	{Code: DiskSpecOutOfRange, Module: "disk", Symbol: "DiskSpecOutOfRange", ZH: "硬盘规格不在可使用范围内", EN: "The disk size is outside the allowed range", When: "size not offered by the set type"},
	{Code: SnapshotLimitReached, Module: "snapshot", Symbol: "SnapshotLimitReached", ZH: "此云硬盘创建的快照数量已经达到上限，无法创建新的快照", EN: "The disk has reached its number of snapshots", When: "per-disk limit reached"},
	{Code: SnapshotStateUnstable, Module: "snapshot", Symbol: "SnapshotStateUnstable", ZH: "快照状态不稳", EN: "The snapshot is in a transient state", When: "state is not Normal"},
	{Code: SnapshotCreatingDisk, Module: "snapshot", Symbol: "SnapshotCreatingDisk", ZH: "快照在创建硬盘，无法操作", EN: "A disk is being created from the snapshot", When: "CreateDiskFromSnapshot still runs"},
	{Code: VPCNotFound, Module: "vpc", Symbol: "VPCNotFound", ZH: "VPC不存在", EN: "The VPC does not exist", When: "unknown VPCID"},
	{Code: SubnetExists, Module: "vpc", Symbol: "SubnetExists", ZH: "VPC中已存在该子网", EN: "The VPC has this subnet already", When: "the same CIDR exists in the VPC"},
	{Code: VPCInUse, Module: "vpc", Symbol: "VPCInUse", ZH: "有资源正在使用当前VPC", EN: "Resources use this VPC", When: "subnets or resources remain"},
	{Code: SubnetNotFound, Module: "vpc", Symbol: "SubnetNotFound", ZH: "子网不存在", EN: "The subnet does not exist", When: "unknown SubnetID, or not of VPCID"},
	{Code: SubnetInUse, Module: "vpc", Symbol: "SubnetInUse", ZH: "有资源正在使用当前子网", EN: "Resources use this subnet", When: "resources remain"},
	{Code: SubnetConflict, Module: "vpc", Symbol: "SubnetConflict", ZH: "子网的网段在VPC中冲突", EN: "The subnet conflicts with another one of the VPC", When: "overlapping CIDR"},
	{Code: SubnetOutOfVPC, Module: "vpc", Symbol: "SubnetOutOfVPC", ZH: "子网网段不在VPC的网段范围内", EN: "The subnet is outside the VPC network", When: "CIDR not inside the one of the VPC"},
	{Code: InvalidVPCBizState, Module: "vpc", Symbol: "InvalidVPCBizState", ZH: "vpc业务状态不正确", EN: "The business state of the VPC is wrong", When: "VPC deleted or being deleted"},
	{Code: InvalidVPCState, Module: "vpc", Symbol: "InvalidVPCState", ZH: "vpc资源状态不正确", EN: "The state of the VPC is wrong", When: "VPC not Available"},
	{Code: InvalidSubnetBizState, Module: "vpc", Symbol: "InvalidSubnetBizState", ZH: "子网业务状态不正确", EN: "The business state of the subnet is wrong", When: "subnet deleted or being deleted"},
	{Code: InvalidSubnetState, Module: "vpc", Symbol: "InvalidSubnetState", ZH: "子网资源状态不正确", EN: "The state of the subnet is wrong", When: "subnet not Available"},
	{Code: SubnetIPInsufficient, Module: "vpc", Symbol: "SubnetIPInsufficient", ZH: "子网可用数量不足", EN: "The subnet has too few free addresses", When: "no free address"},
	{Code: InvalidCIDR, Module: "vpc", Symbol: "InvalidCIDR", ZH: "网段不符合CIDR网段格式", EN: "The network is not in CIDR form", When: "CIDR cannot be parsed, or host bits are set"},
	{Code: NotPrivateNetwork, Module: "vpc", Symbol: "NotPrivateNetwork", ZH: "网段不是ipv4私有网段", EN: "The network is not a private IPv4 range", When: "outside 10/8, 172.16/12, 192.168/16"},
	{Code: ReservedNetworkOverlap, Module: "vpc", Symbol: "ReservedNetworkOverlap", ZH: "网段与特殊网段重叠", EN: "The network overlaps a special range", When: "overlaps a range the platform reserves"},
	{Code: SGRuleDuplicated, Module: "security_group", Symbol: "SGRuleDuplicated", ZH: "安全组规则重复", EN: "Duplicate security group rule", When: "two rules are equal"},
	{Code: SGInUse, Module: "security_group", Symbol: "SGInUse", ZH: "有资源正在使用当前安全组", EN: "Resources use this security group", When: "ResourceCount above 0"},
	{Code: SGNotFound, Module: "security_group", Symbol: "SGNotFound", ZH: "安全组不存在", EN: "The security group does not exist", When: "unknown SGID"},
	{Code: InvalidSGBizState, Module: "security_group", Symbol: "InvalidSGBizState", ZH: "安全组业务状态不正确", EN: "The business state of the security group is wrong", When: "deleted or being deleted"},
	{Code: InvalidSGState, Module: "security_group", Symbol: "InvalidSGState", ZH: "安全组资源状态不正确", EN: "The state of the security group is wrong", When: "not Available (Creating, Updating)"},
	{Code: SGRuleNotFound, Module: "security_group", Symbol: "SGRuleNotFound", ZH: "安全组规则不存在", EN: "The security group rule does not exist", When: "unknown rule id"},
	{Code: SGRulePartiallyNotFound, Module: "security_group", Symbol: "SGRulePartiallyNotFound", ZH: "部分安全组规则不存在", EN: "Some security group rules do not exist", When: "part of the given rule ids is unknown"},
	{Code: BandwidthOutOfRange, Module: "eip", Symbol: "BandwidthOutOfRange", ZH: "带宽规格不在有效范围内", EN: "The bandwidth is outside the allowed range", When: "value not offered by the segment"},
	{Code: IPAlreadyAllocated, Module: "eip", Symbol: "IPAlreadyAllocated", ZH: "指定IP地址已经被申请", EN: "The given address is allocated already", When: "IP, InternetIP or InternalIP in use"},
	{Code: DuplicateIPBinding, Module: "eip", Symbol: "DuplicateIPBinding", ZH: "不能绑定两个拥有相同IP地址的IP或者网卡", EN: "Two IPs or NICs with the same address cannot be bound", When: "the resource has that address already"},
	{Code: NotIPv4, Module: "eip", Symbol: "NotIPv4", ZH: "IP版本非IPv4", EN: "The IP version is not IPv4", When: "the gateway or load balancer takes IPv4 only"},
	{Code: IPInsufficient, Module: "eip", Symbol: "IPInsufficient", ZH: "IP资源不足", EN: "No free address left", When: "the segment is used up"},
	{Code: IPReserved, Module: "eip", Symbol: "IPReserved", ZH: "指定IP已被管理服务占用", EN: "The given address is used by a management service", When: "reserved address"},
	{Code: IPOutOfSegment, Module: "eip", Symbol: "IPOutOfSegment", ZH: "指定IP不在网段范围内，请重新输入", EN: "The given address is outside the network", When: "IP outside the segment or subnet"},
	{Code: BandwidthLimitReached, Module: "eip", Symbol: "BandwidthLimitReached", ZH: "带宽已经达到上限", EN: "The bandwidth has reached its limit", When: "total bandwidth of segment or tenant reached"},
	{Code: InvalidNetworkType, Module: "eip", Symbol: "InvalidNetworkType", ZH: "网络类型无效", EN: "The network type is invalid", When: "NICType or LBType not WAN or LAN"},
	{Code: EIPStillBound, Module: "eip", Symbol: "EIPStillBound", ZH: "外网IP仍然处于绑定状态", EN: "The public IP is still bound", When: "state is Bound"},
	{Code: VSHasRS, Module: "lb", Symbol: "VSHasRS", ZH: "VServer中有服务节点，无法删除", EN: "The VServer has real servers, it cannot be deleted", When: "real servers remain"},
	{Code: LBHasVS, Module: "lb", Symbol: "LBHasVS", ZH: "负载均衡中有VServer，无法删除", EN: "The load balancer has VServers, it cannot be deleted", When: "VServers remain"},
	{Code: VSLimitReached, Module: "lb", Symbol: "VSLimitReached", ZH: "VServer数量超过限额，无法新建，请调整限额后重试", EN: "Too many VServers, raise the limit and retry", When: "VServer limit of the load balancer reached"},
	{Code: VSPortExists, Module: "lb", Symbol: "VSPortExists", ZH: "已有相同端口的VServer", EN: "A VServer with this port exists", When: "same port (and protocol family) in the load balancer"},
	{Code: InvalidVSPort, Module: "lb", Symbol: "InvalidVSPort", ZH: "无效的端口号，只允许1~65535", EN: "Invalid port, allowed are 1~65535", When: "Port out of range"},
	{Code: InvalidVSProtocol, Module: "lb", Symbol: "InvalidVSProtocol", ZH: "无效的协议，只允许TCP、UDP、HTTP、HTTPS", EN: "Invalid protocol, allowed are TCP, UDP, HTTP, HTTPS", When: "Protocol outside the list"},
	{Code: InvalidPersistenceType, Module: "lb", Symbol: "InvalidPersistenceType", ZH: "会话保持类型无效", EN: "Invalid session persistence type", When: "PersistenceType outside None, Auto, Manual, or Manual without a key"},
	{Code: InvalidHealthcheckType, Module: "lb", Symbol: "InvalidHealthcheckType", ZH: "健康检查类型无效", EN: "Invalid health check type", When: "HealthcheckType outside Port, Path, or Path with TCP or UDP"},
	{Code: InvalidKeepaliveTimeout, Module: "lb", Symbol: "InvalidKeepaliveTimeout", ZH: "连接空闲超时时间无效，只允许1~86400", EN: "Invalid idle timeout, allowed are 1~86400", When: "KeepaliveTimeout out of range"},
	{Code: InvalidWeight, Module: "lb", Symbol: "InvalidWeight", ZH: "权重数值无效，只允许1~100", EN: "Invalid weight, allowed are 1~100", When: "Weight out of range"},
	{Code: VSPolicyExists, Module: "lb", Symbol: "VSPolicyExists", ZH: "内容转发规则已存在，请修改", EN: "The content rule exists, change it", When: "same Domain and Path in the VServer"},
	{Code: InvalidRSPort, Module: "lb", Symbol: "InvalidRSPort", ZH: "非法端口号，必须为1~65535", EN: "Illegal port, must be 1~65535", When: "Port out of range"},
	{Code: VSPortReserved, Module: "lb", Symbol: "VSPortReserved", ZH: "端口323，9102，9103，9104，9105，9106，60909，60910被管理服务占用", EN: "Ports 323, 9102, 9103, 9104, 9105, 9106, 60909, 60910 belong to management services", When: "Port is reserved"},
	{Code: SNATRuleDuplicated, Module: "natgw", Symbol: "SNATRuleDuplicated", ZH: "资源已经绑定了相同的SNAT规则，无法重复绑定", EN: "The resource has the same SNAT rule already", When: "rule for that resource exists"},
	{Code: VMHasDefaultEIP, Module: "natgw", Symbol: "VMHasDefaultEIP", ZH: "虚拟机绑定了出外网的外网IP，无法加入白名单中", EN: "The virtual machine has an outbound public IP, it cannot join the allow-list", When: "BindResourceType=VM and the VM has its own default-route EIP"},
	{Code: DNATRuleDuplicated, Module: "natgw", Symbol: "DNATRuleDuplicated", ZH: "DNAT规则和已有规则重复，无法创建", EN: "The DNAT rule equals an existing one", When: "same protocol, public address and port, or same target"},
	{Code: InvalidDNATPort, Module: "natgw", Symbol: "InvalidDNATPort", ZH: "DNAT规则端口配置有误，无法创建", EN: "The ports of the DNAT rule are wrong", When: "port out of 1..65535, or ranges of different length"},
	{Code: NATGWSGAlreadyBound, Module: "natgw", Symbol: "NATGWSGAlreadyBound", ZH: "natgw已经绑定该安全组", EN: "The NAT gateway has this security group already", When: "same SGID"},
	{Code: NATGWResourceInsufficient, Module: "natgw", Symbol: "NATGWResourceInsufficient", ZH: "平台资源不足，请联系平台管理员扩容集群", EN: "Platform resources are short, ask the administrators to extend the cluster", When: "no host can take the gateway"},
	{Code: SNATSourceExists, Module: "natgw", Symbol: "SNATSourceExists", ZH: "该源地址已存在SNAT规则，请勿重复创建", EN: "This source address has an SNAT rule already", When: "the address range overlaps an existing rule"},
	{Code: NATRuleExists, Module: "natgw", Symbol: "NATRuleExists", ZH: "已存在相同NAT规则", EN: "The same NAT rule exists", When: "identical rule"},
	{Code: RemoteVPNGWExists, Module: "ipsecvpn", Symbol: "RemoteVPNGWExists", ZH: "对端网关已存在，无法创建", EN: "The remote gateway exists", When: "IPAddress is registered by the tenant"},
	{Code: VPNTunnelQuotaExceeded, Module: "ipsecvpn", Symbol: "VPNTunnelQuotaExceeded", ZH: "隧道数量超出配额限制，无法创建", EN: "Too many tunnels", When: "the gateway or the peer has 20 tunnels"},
	{Code: InvalidVPNGWState, Module: "ipsecvpn", Symbol: "InvalidVPNGWState", ZH: "网关状态不允许该操作", EN: "The gateway state forbids this", When: "gateway not Running, or tunnels remain"},
	{Code: InvalidTunnelSubnet, Module: "ipsecvpn", Symbol: "InvalidTunnelSubnet", ZH: "隧道子网信息有误", EN: "The subnets of the tunnel are wrong", When: "local subnet not of the VPC, remote CIDR malformed or overlapping, more than 20"},
	{Code: VPNGWIPInsufficient, Module: "ipsecvpn", Symbol: "VPNGWIPInsufficient", ZH: "内网IP不足，无法创建VPN网关(VPN网关需要占用3个内网IP)", EN: "Too few internal addresses for a VPN gateway (it takes 3)", When: "the subnet has fewer than 3 free addresses"},
	{Code: InvalidVPNTunnelState, Module: "ipsecvpn", Symbol: "InvalidVPNTunnelState", ZH: "隧道不允许该操作", EN: "The tunnel does not allow this", When: "tunnel in a transient state, or still used"},
	{Code: AlarmTemplateInUse, Module: "monitor", Symbol: "AlarmTemplateInUse", ZH: "该告警模版已经绑定了资源", EN: "The alarm template is bound to resources", When: "bound resources remain"},
	{Code: NotifyGroupInUse, Module: "monitor", Symbol: "NotifyGroupInUse", ZH: "该通知组已经绑定了告警模版", EN: "The notification group is used by an alarm template", When: "a rule points to it"},
	{Code: NotifyGroupNotFound, Module: "monitor", Symbol: "NotifyGroupNotFound", ZH: "该通知组不存在", EN: "The notification group does not exist", When: "unknown group id"},
	{Code: InspectionRunning, Module: "monitor", Symbol: "InspectionRunning", ZH: "已有一个巡检中的任务，请勿重复创建", EN: "An inspection is running already", When: "one inspection is not finished"},
	{Code: InspectionNotFound, Module: "monitor", Symbol: "InspectionNotFound", ZH: "巡检任务不存在", EN: "The inspection does not exist", When: "unknown InspectionID"},
	{Code: SetTypeNotFound, Module: "cluster", Symbol: "SetTypeNotFound", ZH: "集群类型不存在，请联系平台管理员检查集群资源", EN: "The set type does not exist, ask the administrators to check the sets", When: "unknown VMType or SetType"},
	{Code: NoComputeSetPermission, Module: "cluster", Symbol: "NoComputeSetPermission", ZH: "没有计算集群权限，请联系平台管理员检查集群权限", EN: "No permission for the compute set, ask the administrators", When: "the tenant may not use VMType"},
	{Code: NoStorageSetPermission, Module: "cluster", Symbol: "NoStorageSetPermission", ZH: "没有存储集群权限，请联系平台管理员检查集群权限", EN: "No permission for the storage set, ask the administrators", When: "the tenant may not use SetType"},
	{Code: NoIdleComputeSet, Module: "cluster", Symbol: "NoIdleComputeSet", ZH: "没有空闲计算集群，请联系平台管理员检查集群资源", EN: "No idle compute set, ask the administrators", When: "no compute set of the type has room"},
	{Code: NoIdleStorageSet, Module: "cluster", Symbol: "NoIdleStorageSet", ZH: "没有空闲存储集群，请联系平台管理员检查集群资源", EN: "No idle storage set, ask the administrators", When: "no storage set of the type has room"},
	{Code: ComputeSetInsufficient, Module: "cluster", Symbol: "ComputeSetInsufficient", ZH: "计算集群资源不足，请联系平台管理员检查集群资源", EN: "The compute set is short of resources, ask the administrators", When: "the set cannot take the wanted CPU, memory or GPU"},
	{Code: StorageSetInsufficient, Module: "cluster", Symbol: "StorageSetInsufficient", ZH: "存储集群资源不足，请联系平台管理员检查集群资源", EN: "The storage set is short of resources, ask the administrators", When: "the set cannot take the wanted size"},
	{Code: NoSetPermission, Module: "cluster", Symbol: "NoSetPermission", ZH: "用户对集群资源没有权限，请联系平台管理员检查集群权限", EN: "The user has no permission for the set, ask the administrators", When: "permission check of the set fails"},
	{Code: SetShrinkBelowAllocated, Module: "cluster", Symbol: "SetShrinkBelowAllocated", ZH: "当预期总容量 < 已分配时，不允许进行缩容", EN: "Shrinking is not allowed while the wanted capacity is below the allocated one", When: "new logical capacity below what is allocated"},
	{Code: SetNotFound, Module: "cluster", Symbol: "SetNotFound", ZH: "集群 ID 不存在，请联系平台管理员检查集群资源", EN: "The set id does not exist, ask the administrators to check the sets", When: "unknown SetID"},
	{Code: SetArchMismatch, Module: "cluster", Symbol: "SetArchMismatch", ZH: "集群架构不同", EN: "The sets have different architectures", When: "SetArch differs"},
	{Code: SetDiskNotSupported, Module: "cluster", Symbol: "SetDiskNotSupported", ZH: "集群不支持虚拟机里面的部分硬盘", EN: "The set does not support some disks of the virtual machine", When: "the target set cannot reach a storage set of the VM"},
	{Code: ComputeInstanceNotFound, Module: "node", Symbol: "ComputeInstanceNotFound", ZH: "计算实例不存在", EN: "The compute instance does not exist", When: "unknown CIID"},
	{Code: InvalidComputeInstanceState, Module: "node", Symbol: "InvalidComputeInstanceState", ZH: "计算实例资源状态不正确", EN: "The state of the compute instance is wrong", When: "not in a state that can migrate"},
	{Code: HostLocked, Module: "node", Symbol: "HostLocked", ZH: "物理锁定中，无法操作，请稍后重试", EN: "The host is locked, retry later", When: "the target host is locked; locked already"},
	{Code: HostCPUInsufficient, Module: "node", Symbol: "HostCPUInsufficient", ZH: "CPU资源不足，无法操作，请稍后重试", EN: "CPU is short, retry later", When: "the host lacks CPU"},
	{Code: HostMemoryInsufficient, Module: "node", Symbol: "HostMemoryInsufficient", ZH: "内存资源不足，无法操作，请稍后重试", EN: "Memory is short, retry later", When: "the host lacks memory"},
	{Code: HostGPUInsufficient, Module: "node", Symbol: "HostGPUInsufficient", ZH: "GPU资源不足，无法操作，请稍后重试", EN: "GPUs are short, retry later", When: "the host lacks GPUs"},
	{Code: VGPUProfileInUse, Module: "node", Symbol: "VGPUProfileInUse", ZH: "该GPU虚拟化的vGPU规格，有虚拟机在使用，GPU暂时无法还原", EN: "A virtual machine uses this vGPU profile, the GPU cannot be restored now", When: "restoring a split GPU whose vGPUs are in use"},
	{Code: NICStillBound, Module: "nic", Symbol: "NICStillBound", ZH: "弹性网卡仍然处于绑定状态", EN: "The network interface is still bound", When: "state is Bound"},
	{Code: NICBoundElsewhere, Module: "nic", Symbol: "NICBoundElsewhere", ZH: "弹性网卡已经绑定了其他资源", EN: "The network interface is bound to another resource", When: "BindResourceID is set"},
}
