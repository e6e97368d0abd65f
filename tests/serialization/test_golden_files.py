"""Files that PyTorch 2.13 wrote, kept here as text, and what loading them must give."""

from __future__ import annotations

import base64
import io
import pickle
import zlib
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn
from disttorch.serialization import get_unsafe_globals_in_checkpoint, load

# Each was written by torch.save to a buffer, compressed by zlib and encoded.
DTYPES = """
eNrFl0tsG0Ucxid27DiOm1dDXi1pS6G4NE28tuNH2jTGSU1bF5psKJgWcBxnY5tuvP47k1CQIkWCVuqt7aFcECoVBw7ceuDA
JSc4IQRnkJA4IITE44aQEMzs2OOdycOtc2Aka3at/X7ft7Oz/5mdSdqbEXK50JbWibpRppzNF9a00cUMzoyUrumJeDu6IrQN
2zogb4ow0IJh6NCUxQYRjaRXcUFfcafL2sJqQV9MY624YpTTa3432LzeVAu5foVcmclpYGcSd5zo59h/bmhONZFLfOBI2Umf
La2CM+nE0DKbRElb0n4TXEl7sukmtN7KZg1d17K4YBRX3JfKi1pZW5wuZLEb3MdVaMPgUWFfykEoq4UijkB7ngTIc9N3sMZN
O0xTBTrzplkXN+tmZvtv5SmzB8MTKvSaN20i+wTkVD5T5sh+E+mHAYYc5MgDDHmQIZ/EMKTCITMmQSohOCww5/JGGXPoERMa
gKcY9CiHPs2gzzDoMQzPquCtQgN+OC5AzxdryOdMZBBOMOQwR55kyBGGHMXgU0GpIkNB8AvIi0Yxx5kBkzkGQcYc48wQY4YZ
M4IhqsK4OSeWdCND7/6UQD2X0Zc49bRJDcEEo57h1ElGjTHq8xjiKkyl6MxeqGKnxWefYH9z9FkTHYYEQ7/A0ecY+jxDX8CQ
VOFiLTAZ2RcFsgnm2JdMbAQuMewMx84yrMqwcxheVuFyDUtG9xUBO22sLui16fqqyY1CinFf49wrjHuVcV/H8IYKb6Za6Ytk
LJd07Tohp8U5y/4Xc8+nbPR18EGGGSxwgywzWGQGGoYlFXIpd81A8Ucgv52DdAsFZqHAW8ziGrfQmcUysyhiMFQorY7MJFtc
v019liuRl4/+ZnasX32ojdevkSWjvJzB6TWtvELqRCLeUi1jCgV+/vv379GhpL+dgYMoXANWilc6oxdyxWWtiBPxgFQaH6mF
gjTA5NvwCx0I264ButAkD7BA6pZBi10ifqoR32rTCxjrGs1wY+KnASdxce6aoR2dEVaFUV8iPr6HAKiJNup/7/3Nqw34K3v1
t9mbHdT/wje/+hrw9//P/oE9+pNJb0N21IwciKa4/cXDBx7i46mTIiKmCCbiQdSYP3vt6MynKz1dUx2md4tr4i/PjX5y3F8n
y7CYZSwR96LH8a9mQJUcqJIFVfKgSiZUyeX56suPfXR3UidXj5grlIh3om38T6MYiqNpdJay/z7w9ScNjH+48fHfmESxWGwj
dj9G/R8e+XG8Af/IXp6/mQGRUSBByDH5sSx9t3++08Dzjzby/Fn7Y7JyEGOdq9J3VvoeM9dA04k/6z//DrRfqlSkVHagHf03
JO9Ypd+o9Pdj1fk3t/7BsUb8lV39tx0HJGaqNpd03imd9/BzmvfB+mHbPDmer5P3KM/L1+lD9R5kwE0dvv0od7n++jmE/LUF
3BySFa1cICv4uxn69ZAuLCbiI485i5WALxQdC/sj/kAkHFbCkYg/7AsG/MGQLxAN+YJBJaSEfIqPpvzn7r+zXpLDa6ZsMktN
Nad1T9O5Jbn8HSarrRuYPkG52Yx22gXJEOsmZFDceDjQLjsfmWPdSHQJnLsWDt/AyHLrPqBdkPc6kbT3kLXWNVTU3pO1yqNr
e1skrV/WWldNyVfWBmStdZUTtQddkjYoa60rkaj9VNaOyVrrSiNqY62SNiRrrauEqP1Q1oZlrbWqS/frlrQRWWutvNL9ytqo
rLVWzQ7xftvkubFlYllLmCje3CLeMrOs1UkUlzxIrnmy2Fo0hgTxdxbx9uVsJul0DleLn/0kV3ZLvVbZ5VzfVy3aTvoRin7o
qm2OZpIOJ9N0m9eza/8DgjHSaQ==
"""
VIEWS = """
eNqlll1P01AYx8/WbrCBMHxDUfFdh8roXmCbiuCi9aKJjhqTZTezbJU1lpWnO4CaGEkIS7z1wkvjt/DWr0BivPKCxMTEG/0G
xue0MNozkIDNnp5lOb//8+/Z/5ytqAgiId3dpOOKkcNEs6t1Y0kfq2lUSyw8N+VCHyn7rpXgayDxEmqQWa2pQ6BKLYQSlUVq
mM1oxdZnFw2zVqF6o2nZlaVUFILxeKkL5zdxpjang+AiUdm0NPrY/TAKYimAcyQIlQQcqwuLEFZ6KXTNKEQRFLEF3YqoBFoQ
eVutWqapV6lhNZrRR3ZNt/XaPaNKoxAdUaGHQq8Khxw1Cn117F4X6mI9VHf0+pmeqAgtiCkBJjvwts6wwxSOqHDUaW5by3CM
B4/PICauwaASWIMTLnSSwpAKpxzIqtXgNA+dmcEmghJswTDSOJx1wXMUzqtwwVnGZaOmw8Ut0vGdhEvIByhcZm6DDLyCb0gL
rrp8nALerzn8K9224Drf+caM0jMy4s4epZBQYawUwtn6/AJ9CZKvXQqSCOFqpVg7whYnja5xsTOuwDiFCRWyi4mi0tV9/9f7
+B/EWBV3TdMgmWynKfHMsuc1WlnS7SZ+aXIhz4VqH1eSWfj0+9sqM85qdwtDJLttYTN8Fc005hrzeoPKhfRBXExkmIGpZfgZ
xBbBfxoYIFNtA7MvqW6xrMqFWwd/+nLZNCg1deZhbfL7yTB2Cf/TQx+549vVY5JcuPkfBlzVlSm8TeMLawXrI9ZnrA0schfP
EqxzWNJd5vTF62d3JLa593B61O80KRdipLP/xjTTfDr/I8LSL7Y1yY6a037NlFy4/T/LX97dfz850u7VTno/3ywdZe7XP8w9
2Ts/wyS1HWDHflO3DUzwK40dfhWjJhcS+3waKZfJZ3K5XCabnxiXMrlselxKZqRsVkrju3Q6l8omk9l8nrlUG0urcfQRd1wG
mNm2T+8pEOtwzv+O8LR3Aw/6yIdBstu5wYt4N+GQT2TdK9Kx83kd70Ya8OmoAuncwDzuTXefD/8qEG7v8aw3xX52ReTY5Ba7
c8691xeeTfF9vfnr97HTIcKnmIe9sRj2we888M6BLSrh8I2teAujbTLCjQ/cRyW5sDsix/5CkDebHtyTPxR2mYgz3537Fysu
6O8=
"""
TRAINING = """
eNqtV11vFFUYnt2227JAC1VBQFERdStQ9qs72/KxdYWtugrtUGBE6zjdPd0ZOtvdd+Zsv3S1ii0soDHhyhs/Eo03XnhhYvwF
3oAJBhNINFG5MjEhXhkvTDwf2+3MlFLc5SQzm505z/s85znvec+ZwXRTsyC0tQnL2gahU1DNjKZPor1ZFavdxXEjlWwXTjna
nLcMQkBuIYB8IYsM8GQyBcNAGawXJiz/UTOLTJQ9pGewH7xdEjQFZB/pO4X0nIahOYMLhKJbKWHdsPyKiUZLupFVMJqwCqYy
GfZDSyAgtxKERXqqOQQ+DvGnjIKKj/GHfmiVPaRPENrkJvKbKZZgTdqLwT+UFtKetHcB1qa9ac8CrKtoVMV6DO0SdMhk6MKo
rlqwQSM8mk/jcUKwUVuT9mDoZPh5uI/e7ufYBzBskmBzqQwPymtIZyWPsEoNgi3s/VaZugfbyvAQEz6JTIt4AQ+nPZZljTJM
oYj1vD6LTNhehke4fRZWMYJHy/BYIC2UYUeAqbMwKsLjDnVh2MnVPUHUdXVxVU9ieEoCbhWaLirqZA66HLAIPK0xU3bVTNnN
TdnDQ3Rj2CtBUPYvhVAsgJAjShTCPEqkFiXKo/TwKDEMogTxUtpTht6A5pTeA31c+j6b9P0YDkhwUHPKjUGCd+2vzsEz9Jbk
kGcxHJLgsObUJkKKQwaqkOfo7XkOeQFDWoIXSyV5HelaVE01r+TMQqlowUsjcKQMRwOyl7wxTBgcSPzK1wCbmFEyvxYMDST+
vEzblYHErb9/uLHp7K4FkFi6IRLj2MDBwzMf/B682Mfi8/xWsiijzsBwWmDzouatnKlm4XhFpustr06zJIATFfZ6rGAiNaPB
ySNsCjJqEZdMddRAIFfkdvIkq4+NkdU0gXX29OUKkzdWslAWTh2RN9EuKEOGZKCs4lDwSoWtOjZqC14dgZEAdQiV1BLLR/YC
YZKPr62wIms9/KA4TI/D6zwhVGq6dx5GqekZbnoWA5Jg7Bz7kzsLmgQ6S2usE82nNZ3JGjMLs2gCxlejVqZ0rClsnfjBCDhk
9EKez/1Ede4L9FbkMgCDKYHF/+AylJiGiQJZb5PauIVhSoJpZiZ9loWZRSW8Di1JIUrzCp4pIlaaZomEajUa5h3hjaokmkmh
ILzJNZWrmt6it7e5jDkM75ThXW2SaRlHRQxniJL3JJhnTwykjsFCbYwsYAjOcq/PVb2u0IDnub0XMFyU4P1S92C6te2bG+cP
XSIDotfgiiV+sxColfhukn55FSvVcpVK7nRV+tu3EGX79tbPZ+gk0Gtltq2CuMRWLeeKaui5iTzJ6VQycleErhaLUgGJKfiD
OuS9o4CNQqImYHQGowLdnFLJffXwLjZDx9hAVMP8gZtbaDb77qihXTjo2FX3BlPJvgYECMJcgoTtpwomv0h0U8q2VRTsdyoI
pZJxoX7+fsZdufrblzRtm1fh7ndyh1PJ/Y3Yz8ZP+U+f/uyrOvgjjfJfuXz5AL2ohp0nOy/V4X+0Ef8LnWf66EX5v/tcPlwH
f09j89+Q/7F74T/l/1r6y1sHv9go/6L3+RHPhTr44/ci/xtc/72Nzf+njBvt+OSf1cffYavAvPYEG6y/ZPyM/3vfNqMe/lDj
/InFNfDhkO+n1f3vEPbVNNQ2W7FeDRE/Zb76ce746vvfdiG8tAGz4VvI1MkOPKvSrzVFz6aS3f9TSCgSjPX2iOF4OBIXxZAY
j4fFYCwaj4rxkCiKPb3RaDgSE8Nsjj76txIgOgJMpYeKrem0H1g2LFPu/g51o+0HkM0O5M0WYaUjjjuI/RCx1RFkyCfc4eTi
jmM/CGx0xPnRFqd2AHHD7au43QE/0Sq4zg5urH0XdmKvu7EhN9ZewZ3Y4TYXNuzG2nc+J/aaGxtxY+27lhNLP02cO+Xda77u
xva4sfYdwzVevwsbc2Pt1d41XjdWvPv5HV7rwsbdWHuVdY3Xje11Y+0VssPJu86dG8sSy17anOBry8DLMstenZxgeb3groXL
ZNuKxnbnarKBb1/OBtM+3+7F4te0p4bsdP2iZv47XfWU4OgHufBLtQP/rmnxcUwn68/7/ge/E4y5
"""
OBJECTS = """
eNqdVN9P01AUvt1GGUUZwx8IKqL4YxgZ3Q86iCEj04zEJjprNIsJabr2whrKyuk6HCQmJmaL8dV3/wLffTHxgQdffNFnH0z0
xcRE/wAJ3ruO0RZB5SbdPdk933e+nvP1FsRgCKFwGO1Z/WgAKZZa1tfwpKbYSnx12cjn+tBDz3oSWAAUU22TZHL39A3MASMG
xGATAg0IShBqH2l4TVfJYVcxSLjV1RqwDeiWIFzuKoboPzVNgR6RaQInQW8bVFo0TMVOCBwcuf3s1tb29vbznh15c/PZz06k
ynKpphu2XpFlTjVXVg1c5+DofPancz4/14Y0oU+CSLGbhDau26Obb6BflVVTw2qVwxUacBBtCVQ238JAkSWRoRDiBBxrwnEJ
TnhqldZtrFiWss7ByXK0GCDZ9XUYLJPcUxIMNWBYgtMeRBXbHJxZgLMxkXQJN2BEgnOqahoGVm3drFS5G2atYmOLg9HHcD5W
ZKgWuCAGWlEJxkSm1oCLElzyoO5YGrawdlNXCf/lcQmutPKXIbYA4yLTgKtKFccLYnf468T7sVfkjD6FfWc/iCKd2ccXTWtF
seU1bFVJsXyu122BBCV9/ePTU1qPPvuTDqPMLmmVTFhZwrJi6EuVFVyx87mUz1r/tIQ0FZB9BN9o+wMHCoiibEcAnZ1Ju5bP
XT9M3Z1l6LZtYKqhMftliBqGPVBDBM12NHQ6OnN4BSmO1v7wcun+399/BCV3B0A/6ckqtnQygQ2F2kjWtXwu/p9S+OQMP50W
poVMJiMkZ5KpBJ/meX5qShD4THqKF/jUNPkVqMp334NbMaIj1lLJULEdnW5f9u9R7r+H/Gi3AQc9yF8M2s/JfhK3iYY9JHcD
6ADn+nncRoh6eD66eDoG9MPds4x44A+CyO8dP9jd4hFvbRf4z8MviCx7bccqwYkOkvXtLxhnr4ecneDolYp62wnOLdDFOhi2
le/k/gYUd3r4
"""
LAZY = """
eNqlVT1v00AYvtipY1xIk/JR6FDWIEFqJ3HSUkGQQV48kAaBokrIuM41MThxzr6ED6lSJVSJ/gDExsYfYGFh4C+UARjYmJhY
GJgQdzZNbEdJaTnldInyPh939z52TWOTAPA8GBsZMA8M12xbA7jcNLCR7z2yVSUNNiJjh7mPQM7EDqnM631s2Z6gu3Czb9lN
HcOu57j6oCCgRC7XSBFWj1QaLYiYACLcdDo9Gz5RbcfAd4L/BMQ2EqRURMkGS1az10czGoMRt64BjdlFKS2xi/g903RsG5rY
crqecNttQhc2b1kmFtCJS3UkbKPZRpLCne5DdPKFh9GpOkq3iZH2gXhUdc5XlVCm7atl17UEFZqnkqf32pT0zDY663vqwhY6
RzkX6ug8zNe0FA8+/3zJEQY6axNPdQHIw1PNbzlux8D6ALoe2YSqSLHD/YchUel3P74+p97pnCy9CCoj6b/3oBu21ep2YBer
SvHo6hsb5RI1UH2MvjNEgplqIAuqQwObTzF06J2pytpxdA+GbWFsQ+ph99q3CxxR4aZ6SIPrka5eFlXl6n8YAGCnSmhvkA+Z
Ox+oE/zq4lbGT9B0J6WoE0lVRHBcfao7eFPNUyF+qu4cWBvqDjuvctwjKApUef916+7h978ECqMG9LfsQdciHfjMoCHWraaq
5I9oRJTLkiSuyIViWVotV0S5sFoS5UqxXCqSb7JUKJSllZK0Sl2+/f3xfY74yPkuE9TsyGcovZkx5/HnYBwdDuBCBHkvASbl
PU4SDtFihGQ/TDKW3DhPOAjZCE+dAeMBjMPD3ZuOwD8xIJadODbcgVHsAzaGleLYcA/NRbBfQtgJZxe+2qXonpPgkKaraRx3
+aBF2StDJB9bZ5lg/ZUMVoKjbzTApoLfwdN3hgswvF8f1P4BEeKhrg==
"""
UNSIGNED = """
eNqlVL9v00AUPtuNHVyUtnSo6NARBQlSO3achKpUsioLyQNpUFHEYrn2ESxcO2dfUpUJCWXgn2BiYWNB/AlILAgGJjYmJsTG
yF1+uLajJFBOsk5nv+9733v3PbdMbgWAYhHMrHVwDdiR88QbwF3Xxnal99Q39BJ4lFnPWQeHJKpi9bHnx6IVwZO+57sWhkEc
RtZAEREolzsCYYxJpN2FiJlAJmfxOMDnPeg+mBwR22FItIS4Dkd2p9dHKyaPUeHIBCY3RLzJDJHw0nFC34cO9sIgFu9HLoyg
e+g5WETFm210ZZxD7HsBljURiRitttHVSssUiu9ufHTfEmb6tObWvwVWk/orj8Po1MbWAEYxyWfowrQNMiV8//PbCyqZWUi4
DeoXhJPaLdv3usEpDLChK7nW/tXSVCrg4Az9YEkKdqGADXCQCDg5xzCkTTP0vcvknS7fw9iHVMNw//t1nmThF2oogbsZV+1K
hn7nPwTQprOA5j98fW9vef41sJ/kT26zeXkBikhzf37VPV7e/x1QvTDAqPgYRh5xwDObutjyXEOv/KMUuVavNuRmsybLjZqq
qYpU1SS1rmmqpDTrmiJLda3WaDaoytLmrzdloqM8UslQsYnO9EyszyjP/wfy6PQAbGWhDJg3RXmStIm3MxxHaZKZycnzpI24
keH5kuJJBiAPT/uolIE/ZEHOu3ls2gdrGezXFHZO/enr2cmA2xxYYpyWyfO3pjbjbidIIbd/Ysb7b268E9zo04dCclvkXYEf
Y4RR/Dj2D8kFV6A=
"""
SPARSE = """
eNqlVT1v00AYPjup47olTUvpF1A6MAQJUttpk4YKKhnkxUikAaSIxXKdI7Hqxjn7UtROlVAquiF+AL+BjYFfwQBTNyYmJH4B
d3Hs2i5JoZx0uiR6n4/z+z5OVUulAeB5cG7lwAwwXLNl7cPVhoGNQmfXVpUseBlbR6yJHVJV0LvYsj1Bd+FO17IbutcxXA/q
GLY9xxUQGJR50LUM2zo0sOW0Bb0JsW4bB04XC4ip54jsoMxHm46D2B5K1VA6P0THF9D3ZQGN5fP1DKHwSKXRhIjzIcITp918
5v8moEydISUi4uspcpqdLhrX0hgJ2xrQWI09RhPkYI7R5IlpOrYNTWrUE566DejCxmPLJE6v3KmhLEZTNZRrEdFWIKTajoFD
pem+koRmWuMai9HVvkIPzWpMD107aVGSOYzma2hhAH9mHRLYom9jqYeu19CNtxjdPEbLNXSrUNUy/CnzrbNLaOmuDm3dPGle
0LrCK8fdM7C+D12P3ERVJmMdlCjrp5+nb6hXuoezLoHyGevgGeukl832HmxjVSkmRuOvVmmNGth6jX6wRIIdaWAabIUGdg4w
dGhPVGXzMrrBsi2MbUg99B58X+SICjfSQxY8jKViVVSV+/9hIOBlEjrBd+psVuw9XyGfVy5wdjvuTFKVFXCx/tEW3VTn3Tb3
lRLzI3WmwGaoEw5V+bKPoChQ5S8fmi8u7v8ykM8GsH/F2NtEtxqqUvhHI+J6SZLEjXW5WJIqpbK4LlfWJFksixuiXBal4lpF
kisVuT+lv3Za7Tzxke+7ZKjZ0Gc0mLlzzpPv0SQ6GsD5GPIzA4ZFOUkSDdFSPDgsGJHcJE80CNMxnvcRnjCASXh0WrMx+FwK
JLKTxEYnMI79mMRKSWx0hqZi2IU0SE5sEhxt7XL8zhHwn4euqnHc3WBEU/dCJJ84J1j/3BgLos3RfyvwKHMW+ao2xvkYvl/v
1/4Gjdut3Q==
"""
LEGACY = """
eNptTz1LA0EQ3du7GF1RbO0sYxNOE5FUNpLmiB+x2UaWc29JVpbbzO5cQCGQJqD+Bn+Af82fIFg4Mdg5MAPz5s2bN0v+Jtz3
+/Dr6PHj5rC75KPPlOoCWEceMMZmwaPX3qm5CdH6GhIiyD2aOIvojDJ1Zcsa+IsUBOLTzKhon02EdAFZR7YIjFMfEFoFlyl1
tkbYKjKZrTV8PYF2kTUN3dTog552VYPWRaGCeWisqxSaOvqg5qeCPHVkey1IzHJiINmsiKHzJd5tQAFc7hNn0M9PeueDvHfW
7+c5pL+39ayBrOBX5Oa2YAVfkZNkBe1XTS86o5E+jOI6VCaY6tJqFLB9PIYdBDGGXfJ4D+w/9aTscvYXy4t1/gAPBGFp
"""
PROTOCOL4 = """
eNqllL1v00AYxs9x40QUJW0ZKjp0NhKksWPngwoiWciLB5IgGLpYbnIECydu7UsqkJAqoQxIlojUY4SZhRX+BEYEEhIDGxMT
KyN3Tuqer2oK5STLkn2/531e3/O6ZYlLAOTz4NRaAWvACbqP3DHc6jnIKe099kyjAHZS63Dp1es58AzLkXCAo8vIJ1jJHiHX
C3G0Zgdwd+R6PRvBYegH9ljFR1iWo1xINjp9iKNsTBDS9HwH3Zs/PsKRUMaR2N0bYSuDcNsCVmaCLWGCX0TLXd/zYBe5/pDU
WL4b9GAAe3fcLiLctQ5GuEPwEL/EsiVMR6WWlcsL1nTwlhilV+vMvtfBlaTv0kM/GDjIHsMgJJVMo8i1v6NQ4Q+/vj8XCCos
FN4AtRPhee+247n94QAOkWlUeO2/WVWNGmge7P/MkBKZhQZWQTMxsPsEQZ9+NNPYvkjd4+W5CHmQepjc+nFVIlWkhR4K4HYq
VVtl07j5HwYAOGzSizqYtqWvtGR+oYMi2E4cJOdau6iFyiVa+fOb/v3zv/8mUE8CEDcfwsAlCXjq0Bzbbs80Sv9oRNFral1p
NHRFqetaVauU1WpZa2iVRlWpq6quqHpN0fUadblfffdeJj7k2KVAzSY+2dlYOeWc/w/wNDsA6ynyN0Nz08SLsCHeSIm0BbBg
cngdNoirKZ0vjE4yADzOpqiQwh9kAJddnmVzUEyx3xj2jP7Z49lMwR0RnBOcliVJ149jJt5IyBx3/yTMj0Wc3QkXv/qYnccg
fpaVZkwu3j/b+weMFmQM
"""
NUMPY = """
eNqdlLFu00Acxs9O4qQONG2Xig6dM4DrxMZOVKKIDBmwFIVIIIslutrX1MKxc+drIUhISIgAMzviAdh5AHgBmJlgYuIFkMAX
q+7ZhQD9S87Z0X3f/e5/nz20CkUAKhVwrjbAFoDEOfJO0J4LKVRm9/1+bx3cy9QT8TEGdmwB/DCKsOAEx9PZXBk7IUHK9Nin
HiQEzuXIgT4kMhaTCbJL5zMk44ItxtLDFi6+fPEcl0ZYqlsFW4j/u4HLg8Hg1s+4lj8WoLhy4MTGLnIiGQXsRsZr9lpK/P5N
F8u2xFgg9YIGri7wpRG+vMDrI1yLlKFVrtxEo+LbeAa7hn/c+zaopXtXDkMyhXR8gkjkhUG/V+Vb0GCm775/fsqYhZWmO8A8
M41oSOAEjaHvTYIpCmi/p+Va+09l6Ayg+wB/Y40UVwJsgm4KcDCnKCQuIv3e/kXWPS3fo9RHjOFZ5+sV1ntpJUMNdFKGtKPt
ixNoMlv74+vJnb/vfxc0zw6ARXovQsSLT+BRHJcwGHtuv6f8J4rabKst3WgZpmkazXZTa6i6qqq6aWpqo6Vqut40jcZ1g1F+
WHzp1GOO+pJSYLApJ5/LjXPk+fcwr+YDuJ1R/uDUuSTnTfgQ7WRMbgtgRXLzPnwQNjM+nzifNIB5OX+WtYz8rgjy2cmL+Rbv
ZtfmxL8//KElSVdPo1K4liql3PhKSMaHhWSMdWU2VkvJc/IVKEmJRlrOT+b+ArgqMPg=
"""
MODULE = """
eNqlVttv21QYd5I2De7W29i6daMDxiWFNU3Spml3a8lGuLh0XUrBDIZxnJMcU9fOZx83GlKlIdStlfgLQOIN8cYrf0clxBMv
iCeeeELikXNxGzvpRWxHciyf8/suP3+/74tXlESPJKVSUtcakkYk3TWwuYmmajrRM811q1wakO5H1qO4QRyKyth2ZsOp+Rby
MoZjE920kSuvIvCRTUzdkkGa+BpiWxBPqywYcSnCtBuQ2FH76bPW1F19AxHketCzBb0cpFX9ep3tJLegT73IdmzH1pp0y/QI
dbwP0DxEIGVo9Nm0iGlrmkx3ZHjuAcjb0F+BU+oZ7k831lu6W9OaLtKw46x7cNowHMtCBjEd25PvujXkotod06DWAxMVGFQH
I4bCaAizs2H1HDszPa3uW1YUAyPL6gA7rTtuyPAMN3xeHes60lomwRpz0PDgLIedUy91w3SrpT/0NEOnSddglAPPqyNhYJvc
BX48po4fehwJeZFDL6nDDOoRnSCtRt9C4OgFfjqunu04bYe6zBEvCmaWo9cOh73EYS+LYnbBHG8/4BWOe0XIIBAWvLoFr6XV
BN1ybASvdyvPoqrTXXlJ3CBNJTexBW+kcWIHU1W9mVaT1LiFzAYmcDWw13xiWp6suYipp9ZWogyTR0Co9jzH1TbzMmTSabWP
OvUoUm8gmBImcpmSI6tiU4asGqOYLOR49kbTh7wSJzB9T5GUmBJ/DDNKXIk9hsIu5z1LoFiBuR3+MP8ErlXgukr7VKqaugc3
8CSmYfEUFm5zcBPnlRiBW9zdNiywn0Xh6i0CpQrcFq7uPIG3K1D2MW2od3AK0/54dxveq8D7+DQHKFhIewmPLGMh1g+wUOMy
FmK7i4WqVrCQzD0sxFHBQgKrWNT4QyxquIZp2T7iTU4bs4504ru0lh8rcfUUq6RP2puqEvOr/BWRlgOfdBdYp326qbNelSto
aU2G+7TEn27BZ/slfsCofS6oadvwRQX0gFo1oGa0qdUCaiigVg+oNQJqOKBmBtS+DKitB9QsRm2Dl9+0m5ZuILB3/arvVzMr
Sl/qn5/978/3ShK7Vo6cs6PSlYM5m6E9uqETbZNNOMculy53jNuulWOBfvn792+YENh1dKAxqdgOFMiVjhOzYW/QUVouTZ8U
67A1O8MSWGjBX3EaIn5sAsPSwkEC1YcEOWzYlkvXnybu/rJMQizEcti++ecF1t3JY3MYkG5F/tWmsuXStWdIQJIeLVC3iyyD
zR8XMixk6oQMbkQzyJVLc9LTx1/ksXf3/viJDYieY2MPhipwoLFnev/TMou+90Nj7eT6j0v5tgA5dQ+59NvA/Ip3tGbWyqXM
/0wmW5jN5bJzhfz0bG5+tpgt5OdnsjPFQrGQnZ+by+Vm8sXCdDGXZVlOfXf72zTNI82zjLFkD/IM9+pQV+ad30Gd1uEGHI1Y
4l7pqO7udBJuorGIk72wk67O7fQTboThiJ9KUupuwE7zsIoHIua/JaWO3um0DaswasuGZFT1nbZhDQ1GbH8N2R7x7sKlHY9y
TkkniG5FSSav7ks0MXlgmeq498fF/d9gg9qxyS8l+sWzmL69SWGT4niB/Q+y3/EC
"""


def opened(recorded: str) -> io.BytesIO:
    return io.BytesIO(zlib.decompress(base64.b64decode(recorded)))


def loaded(recorded: str, **options: Any) -> Any:
    return load(opened(recorded), **options)


@pytest.mark.parametrize("weights_only", [True, False])
def test_all_element_types(weights_only: bool) -> None:
    found = loaded(DTYPES, weights_only=weights_only)
    assert len(found) == 12
    for name, tensor in found.items():
        assert repr(tensor.dtype) == f"torch.{name}", name
        expected = np.arange(6).reshape(2, 3).astype(tensor.dtype.numpy)
        assert tensor.tolist() == expected.tolist(), name


def test_views_share_memory_and_keep_their_strides() -> None:
    found = loaded(VIEWS)
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = {
        "base": (base, (4, 1)),
        "t": (base.T, (1, 4)),
        "row": (base[1], (1,)),
        "odd": (base[:, 1::2], (4, 2)),
        "wide": (np.full((2, 2), 7, np.float32), (0, 0)),
        "zero": (base[2, 3], ()),
    }
    for name, (values, strides) in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), values, err_msg=name)
        assert found[name].stride() == strides, name
    assert found["empty"].shape == (0, 3)
    found["base"].fill_(-1)
    for name in ("t", "row", "odd", "zero"):
        assert (found[name].numpy() == -1).all(), f"'{name}' no longer shares memory with 'base'"


def test_training_state() -> None:
    found = loaded(TRAINING)
    model = found["model"]
    assert type(model) is OrderedDict
    assert list(model) == ["weight", "bias"]
    assert model._metadata == {"": {"version": 1}}
    assert model["weight"].tolist() == [[1.0, 2.0]]
    optimizer = found["optimizer"]
    assert optimizer["param_groups"][0]["betas"] == (0.9, 0.999)
    assert optimizer["param_groups"][0]["params"] == [0, 1]
    assert optimizer["state"][0]["step"].item() == 1.0
    np.testing.assert_allclose(optimizer["state"][0]["exp_avg"].numpy(), [[0.1, 0.1]], rtol=1e-6)


def test_parameters_and_attributes() -> None:
    found = loaded(TRAINING)
    assert isinstance(found["parameter"], nn.Parameter)
    assert found["parameter"].requires_grad
    assert found["tied"] is found["parameter"]
    assert isinstance(found["frozen"], nn.Parameter)
    assert not found["frozen"].requires_grad
    assert found["frozen"].note == "frozen"
    assert type(found["noted"]) is disttorch.Tensor
    assert found["noted"].note == "kept"
    assert found["leaf"].requires_grad
    assert found["leaf"].is_leaf


@pytest.mark.parametrize("weights_only", [True, False])
def test_plain_objects(weights_only: bool) -> None:
    found = loaded(OBJECTS, weights_only=weights_only)
    expected = [
        disttorch.Size([2, 3]),
        disttorch.device("cpu"),
        disttorch.device("cuda:1"),
        disttorch.bfloat16,
        None,
        True,
        -3,
        2**70,
        0.5,
        1 + 2j,
        "text ü",
        b"a\xff",
        bytearray(b"xy"),
        {1, 2},
        Counter("aab"),
        OrderedDict(k=[(1,)]),
    ]
    for value, wanted in zip(found, expected, strict=True):
        assert type(value) is type(wanted)
        assert value == wanted


def test_lazily_conjugated_and_negated_tensors() -> None:
    conjugated, negated = loaded(LAZY)
    assert conjugated.tolist() == [1 - 2j, 3 + 4j]
    assert negated.tolist() == [-2.0]


def test_another_pickle_protocol() -> None:
    found = loaded(PROTOCOL4)
    assert found["w"].tolist() == [1.0, 1.0]
    assert found["s"] == {1}


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize(
    ("recorded", "what"),
    [(UNSIGNED, "the element type torch.uint16"), (SPARSE, "a sparse tensor|a tensor layout")],
)
def test_kinds_of_tensors_that_do_not_exist_here(recorded: str, what: str, weights_only: bool) -> None:
    with pytest.raises(pickle.UnpicklingError, match=f"the file holds ({what}).*convert it"):
        loaded(recorded, weights_only=weights_only)


def test_the_format_before_version_1_6_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"before version 1\.6; load it with PyTorch and save"):
        loaded(LEGACY)


def test_numpy_scalars_are_refused_by_name_and_load_when_trusted() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL numpy\._core\.multiarray\.scalar"):
        loaded(NUMPY)
    assert loaded(NUMPY, weights_only=False)["loss"] == 0.5
    assert "numpy.dtype" in get_unsafe_globals_in_checkpoint(opened(NUMPY))


def test_a_whole_module_needs_trust_and_becomes_our_module() -> None:
    with pytest.raises(pickle.UnpicklingError, match="needs weights_only=False; a state_dict"):
        loaded(MODULE)
    net = loaded(MODULE, weights_only=False)
    assert isinstance(net, nn.Sequential)
    assert net(disttorch.ones(1, 2)).tolist() == [[6.0]]
